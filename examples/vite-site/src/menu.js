export const menu = [
  { name: 'Pour over', about: 'Four minutes, one cup', price: 420 },
  { name: 'Flat white', about: 'Two shots, little milk', price: 390 },
  { name: 'Cold brew', about: 'Sixteen hours in the dark', price: 450 },
];

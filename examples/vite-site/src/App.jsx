import { useState } from 'react';
import { menu } from './menu.js';

const money = new Intl.NumberFormat('en', { style: 'currency', currency: 'EUR' });

export function App() {
  const [order, setOrder] = useState({});
  const cups = Object.values(order).reduce((sum, n) => sum + n, 0);
  const total = menu.reduce((sum, { name, price }) => sum + price * (order[name] ?? 0), 0);
  const add = (name) => setOrder((before) => ({ ...before, [name]: (before[name] ?? 0) + 1 }));

  return (
    <main>
      <h1>Slow Pour</h1>
      <p className="lead">Coffee that takes its time. This page took less.</p>
      <ul>
        {menu.map(({ name, about, price }) => (
          <li key={name}>
            <div>
              <h2>{name}</h2>
              <p>{about}</p>
            </div>
            <button type="button" aria-label={`Add ${name}`} onClick={() => add(name)}>
              {money.format(price / 100)}{order[name] ? ` × ${order[name]}` : ''}
            </button>
          </li>
        ))}
      </ul>
      <p className="total" role="status">
        {cups === 0 ? 'Nothing ordered yet' : `${cups} ${cups === 1 ? 'cup' : 'cups'}, ${money.format(total / 100)}`}
      </p>
    </main>
  );
}

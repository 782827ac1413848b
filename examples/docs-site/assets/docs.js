// Search: shows the pages that have a word beginning with each word typed.
const input = document.getElementById("q");
const results = document.getElementById("results");

function find(text) {
  const wanted = text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
  if (wanted.length === 0) return null;
  return searchIndex.filter(({ words }) => wanted.every((w) => ` ${words}`.includes(` ${w}`)));
}

function item(page) {
  const line = document.createElement("li");
  const link = document.createElement(page ? "a" : "span");
  link.textContent = page ? page.title : "No page has these words";
  if (page) link.href = page.page;
  line.append(link);
  return line;
}

function show() {
  const found = find(input.value);
  results.replaceChildren(...(found === null ? [] : found.length ? found.map(item) : [item(null)]));
}

input.addEventListener("input", show);
input.form.addEventListener("submit", (event) => {
  event.preventDefault();
  results.querySelector("a")?.click();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") input.value = "", show();
});

// Renders /openapi.json. Everything is set as text, never as markup, so nothing
// in the document can become part of the page's code.

// Where the server is: the page may be below a path of another site.
const home = new URL("../", import.meta.url).href;

const methods = ["get", "post", "put", "patch", "delete"];

/** Makes an element: props are properties, children are nodes, text, or arrays of them. */
function el(name, props = {}, ...children) {
  const node = Object.assign(document.createElement(name), props);
  node.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== ""));
  return node;
}

const code = (text) => el("code", {}, text);

function resolve(doc, schema) {
  if (!schema?.$ref) return schema ?? {};
  return doc.components.schemas[schema.$ref.split("/").pop()] ?? {};
}

const nameOf = (schema) => schema?.$ref?.split("/").pop() ?? "";

function typeOf(schema = {}) {
  if (schema.$ref) return nameOf(schema);
  const forms = schema.oneOf ?? schema.anyOf;
  if (forms) return forms.map(typeOf).join(" or ");
  const types = [schema.type ?? "any"].flat();
  return types.map((t) => (t === "array" ? `array of ${typeOf(schema.items)}` : t)).join(" or ");
}

function limitsOf(schema = {}) {
  const parts = [];
  if (schema.format && schema.format !== "int64") parts.push(schema.format);
  if (schema.enum) parts.push(`one of ${schema.enum.join(", ")}`);
  if (schema.minimum !== undefined) parts.push(`at least ${schema.minimum}`);
  if (schema.maximum !== undefined && schema.maximum < Number.MAX_SAFE_INTEGER) parts.push(`at most ${schema.maximum}`);
  if (schema.maxLength !== undefined) parts.push(`at most ${schema.maxLength} bytes`);
  if (schema.maxItems !== undefined) parts.push(`at most ${schema.maxItems} items`);
  if (schema.pattern) parts.push(schema.pattern);
  if (schema.default !== undefined) parts.push(`default ${schema.default}`);
  return parts.length ? `, ${parts.join(", ")}` : "";
}

function term(name, schema, required) {
  return el("dt", {}, code(name), " ", el("span", { className: "type" }, typeOf(schema) + limitsOf(schema) + (required ? ", required" : "")));
}

/** The schemas that a schema is made of and that have fields to show. */
function parts(doc, schema) {
  if (!schema) return [];
  if (schema.$ref && !resolve(doc, schema).properties) return parts(doc, resolve(doc, schema)); // a choice with a name
  if (schema.$ref || schema.properties) return [schema];
  if (schema.items) return parts(doc, schema.items);
  if (schema.additionalProperties?.$ref) return [schema.additionalProperties];
  return (schema.oneOf ?? schema.anyOf ?? []).flatMap((s) => parts(doc, s));
}

function fields(doc, schema, above = []) {
  const shape = resolve(doc, schema);
  const list = el("dl");
  for (const [name, field] of Object.entries(shape.properties ?? {})) {
    const required = shape.required?.includes(name);
    const detail = el("dd", {}, field.description);
    for (const part of parts(doc, field)) {
      const inner = nameOf(part);
      if (inner && above.includes(inner)) continue; // a shape within itself
      detail.append(el("details", {}, el("summary", {}, inner || "Fields"), fields(doc, part, [...above, inner])));
    }
    list.append(term(name, field, required), detail);
  }
  return list;
}

function contents(doc, content = {}) {
  return Object.entries(content).flatMap(([type, media]) => {
    const out = [el("div", {}, code(type), " ", el("span", { className: "type" }, typeOf(media.schema)))];
    const seen = new Set();
    for (const part of parts(doc, media.schema)) {
      const name = nameOf(part);
      if (seen.has(name)) continue;
      seen.add(name);
      out.push(el("details", {}, el("summary", {}, `Fields of ${name || "the object"}`), fields(doc, part, [name])));
    }
    if (media.example !== undefined) {
      const text = typeof media.example === "string" ? media.example : JSON.stringify(media.example, null, 2);
      out.push(el("pre", { tabIndex: 0 }, text));
    }
    return out;
  });
}

function parameters(list = []) {
  if (!list.length) return null;
  return [
    el("h4", {}, "Parameters"),
    el("dl", {}, list.flatMap((p) => [term(`${p.name} (${p.in})`, p.schema, p.required), el("dd", {}, p.description)])),
  ];
}

function answers(doc, responses) {
  const good = [], bad = [];
  for (const [status, response] of Object.entries(responses).sort()) {
    if (Number(status) < 400) {
      good.push(el("dt", {}, code(status), " ", response.description), el("dd", {}, contents(doc, response.content)));
    } else {
      bad.push(el("dt", {}, code(status), " ", linkCodes(response.description)));
    }
  }
  return [el("h4", {}, "Answers"), el("dl", {}, good), bad.length ? [el("h4", {}, "Errors"), el("dl", {}, bad)] : null];
}

/** Turns "invalid_argument: …" into a link to the code's row. */
function linkCodes(text) {
  return text.split(/\b([a-z]+(?:_[a-z]+)*)(?=: )/).map((part, i) => (i % 2 ? el("a", { href: `#${part}` }, code(part)) : part));
}

function example(method, path, op) {
  const parts = ["curl"];
  if (method === "delete") parts.push("-X DELETE");
  const body = op.requestBody?.content?.["application/json"];
  if (op.security) parts.push('-H "Authorization: Bearer $KEY"');
  if (body) parts.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(body.example ?? {})}'`);
  else if (method === "post") parts.push("-X POST");
  parts.push(`'${home}${path.slice(1)}'`);
  return el("pre", { tabIndex: 0 }, parts.join(" \\\n  "));
}

function operation(doc, method, path, op) {
  return el("article", { id: op.operationId },
    el("h3", {}, op.summary),
    el("p", { className: "route" }, el("span", { className: `method ${method}` }, method.toUpperCase()), " ", path),
    op.description ? el("p", {}, op.description) : null,
    parameters(op.parameters),
    op.requestBody ? [el("h4", {}, "Body"), contents(doc, op.requestBody.content)] : null,
    answers(doc, op.responses),
    el("details", {}, el("summary", {}, "Try it with curl"), example(method, path, op)));
}

function problemTable(list) {
  const head = el("tr", {}, ["Code", "Status", "Meaning"].map((t) => el("th", { scope: "col" }, t)));
  const rows = list.map((c) => el("tr", { id: c.code }, el("td", {}, code(c.code)), el("td", {}, String(c.status)), el("td", {}, c.title)));
  return el("section", {},
    el("h2", { id: "errors" }, "Errors"),
    el("p", {}, "Every error is ", code("application/problem+json"), ". Branch on its ", code("code"), "; its ", code("detail"),
      " says what is wrong, the limit and the fix; ", code("retryAfter"), " says in how many seconds the same request may succeed."),
    el("div", { className: "scroll" }, el("table", {}, el("thead", {}, head), el("tbody", {}, rows))));
}

function render(doc) {
  const nav = document.getElementById("nav");
  const main = document.getElementById("main");
  nav.append(el("strong", {}, doc.info.title), ` ${doc.info.version}`);
  main.replaceChildren(
    el("h1", {}, `${doc.info.title} API`),
    el("p", {}, doc.info.description),
    el("p", {}, "As a document: ", el("a", { href: `${home}openapi.json` }, "openapi.json"), ", ", el("a", { href: `${home}openapi.yaml` }, "openapi.yaml"), "."));
  for (const tag of doc.tags) {
    const links = el("ul");
    const section = el("section", {}, el("h2", {}, tag.name));
    for (const [path, item] of Object.entries(doc.paths)) {
      for (const method of methods) {
        const op = item[method];
        if (!op?.tags?.includes(tag.name)) continue;
        links.append(el("li", {}, el("a", { href: `#${op.operationId}` }, el("span", { className: `method ${method}` }, method.toUpperCase()), " ", op.summary)));
        section.append(operation(doc, method, path, op));
      }
    }
    nav.append(el("h2", {}, tag.name), links);
    main.append(section);
  }
  nav.append(el("h2", {}, "more"), el("ul", {}, el("li", {}, el("a", { href: "#errors" }, "Errors"))));
  main.append(problemTable(doc["x-problem-codes"]));
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

try {
  const response = await fetch(`${home}openapi.json`);
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  render(await response.json());
} catch (error) {
  document.getElementById("main").replaceChildren(el("p", { className: "error", role: "alert" }, `The API description could not be loaded: ${error.message}`));
}

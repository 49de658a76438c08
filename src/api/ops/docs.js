"use strict";
// Shows /openapi.json as a page. Everything from the document is set as text, never as markup.

const VERBS = ["get", "post", "put", "patch", "delete"];
const DEPTH_MAX = 6;
let api;

/** Puts text into a node; what stands between backticks is shown as code. */
function write(node, text) {
  String(text).split("`").forEach((part, at) => node.append(at % 2 ? make("code", part) : part));
}

function make(tag, text, name) {
  const node = document.createElement(tag);
  if (tag === "code") node.textContent = text;
  else if (text !== undefined) write(node, text);
  if (name) node.className = name;
  return node;
}

function resolve(thing) {
  if (!thing || !thing.$ref) return thing || {};
  return thing.$ref.split("/").slice(1).reduce((place, key) => place && place[key.replaceAll("~1", "/").replaceAll("~0", "~")], api) || {};
}

function typeOf(schema) {
  const real = resolve(schema);
  if (real.enum) return real.enum.map((word) => JSON.stringify(word)).join(" | ");
  if (real.type === "array") return "list of " + typeOf(real.items);
  if (schema && schema.$ref) return schema.$ref.split("/").pop();
  return [].concat(real.type || (real.oneOf ? "one of " + real.oneOf.map(typeOf).join(", ") : "value")).join(" or ");
}

function bounds(schema) {
  const real = resolve(schema);
  const names = ["format", "pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "default"];
  return names.filter((name) => real[name] !== undefined).map((name) => name + " " + JSON.stringify(real[name])).join(", ");
}

function fields(schema, prefix, depth, rows) {
  let real = resolve(schema);
  while (real.type === "array") {
    prefix += "[]";
    real = resolve(real.items);
  }
  const all = [real].concat((real.allOf || []).map(resolve));
  for (const part of all) {
    for (const [name, field] of Object.entries(part.properties || {})) {
      const path = prefix ? prefix + "." + name : name;
      const needed = (part.required || []).includes(name) ? "required" : "";
      rows.push([path, typeOf(field), [needed, bounds(field)].filter(Boolean).join(", "), field.description || resolve(field).description]);
      if (depth < DEPTH_MAX) fields(field, path, depth + 1, rows);
    }
  }
  return rows;
}

function table(rows) {
  const body = make("table");
  for (const row of rows) {
    const line = make("tr");
    const first = make("td");
    first.append(make("code", row[0]));
    const last = make("td", row[3] || "", "text");
    line.append(first, make("td", row[1]), make("td", row[2], "soft"), last);
    body.append(line);
  }
  return body;
}

function schemaOf(holder) {
  const content = resolve(holder).content || {};
  const media = Object.values(content)[0];
  return media && media.schema;
}

function fill(box, operation) {
  box.append(make("p", operation.description || "", "text"));
  const credentials = (operation.security || []).flatMap((either) => Object.keys(either));
  box.append(make("p", "Credential: " + (credentials.join(" or ") || "none"), "soft"));
  const parameters = (operation.parameters || []).map(resolve);
  if (parameters.length) {
    box.append(make("h4", "Parameters"));
    box.append(table(parameters.map((p) => [p.name, p.in + ", " + typeOf(p.schema), [p.required ? "required" : "", bounds(p.schema)].filter(Boolean).join(", "), p.description])));
  }
  const body = operation.requestBody && schemaOf(operation.requestBody);
  if (body) {
    box.append(make("h4", "Body"), table(fields(body, "", 0, [])));
  }
  box.append(make("h4", "Answers"));
  for (const [status, answer] of Object.entries(operation.responses || {})) {
    const part = make("details");
    part.append(make("summary", status + " " + (resolve(answer).description || "")));
    const schema = schemaOf(answer);
    if (schema) part.append(table(fields(schema, "", 0, [])));
    box.append(part);
  }
}

function show(word) {
  const place = document.getElementById("operations");
  place.replaceChildren();
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths || {})) {
    for (const verb of VERBS.filter((verb) => item[verb])) {
      const operation = item[verb];
      const text = [verb, path, operation.operationId, operation.summary, operation.description].join(" ").toLowerCase();
      if (!text.includes(word)) continue;
      const group = (operation.tags || ["Other"])[0];
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push([verb, path, operation]);
    }
  }
  for (const [group, operations] of groups) {
    place.append(make("h2", group));
    const tag = (api.tags || []).find((tag) => tag.name === group);
    if (tag && tag.description) place.append(make("p", tag.description, "text"));
    for (const [verb, path, operation] of operations) {
      const box = make("details");
      const head = make("summary");
      head.append(make("b", verb.toUpperCase()), make("code", path, operation.deprecated ? "gone" : ""), make("span", "  " + (operation.summary || operation.operationId || ""), "soft"));
      box.append(head);
      box.addEventListener("toggle", () => box.childElementCount === 1 && fill(box, operation));
      place.append(box);
    }
  }
  if (!groups.size) place.append(make("p", "Nothing fits."));
}

fetch("/openapi.json").then((answer) => answer.json()).then((document_) => {
  api = document_;
  write(document.getElementById("about"), (api.info && api.info.description) || "");
  document.getElementById("filter").addEventListener("input", (event) => show(event.target.value.trim().toLowerCase()));
  show("");
}).catch((fault) => {
  document.getElementById("operations").replaceChildren(make("p", "The document cannot be read: " + fault));
});

// Text of a model as elements. The text is hostile: marked only cuts it into tokens, and every element is made here, by name, with
// text nodes inside. HTML in the text is shown as text, and no image is loaded.
/* global marked, hljs, katex */

const entities = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" };
// marked escapes the texts of its tokens for HTML, which is not made here.
const plainText = (text) => text.replace(/&(amp|lt|gt|quot|#39);/g, (whole, name) => entities[name]);

// The browser's clipboard is there only for pages of this machine and over TLS.
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function make(tag, tokens) {
  const made = document.createElement(tag);
  if (tokens) made.append(...tokens.map(element));
  return made;
}

function link(token) {
  if (!/^(https?|mailto):/i.test(token.href ?? "")) return make("span", token.tokens);
  return Object.assign(make("a", token.tokens), { href: token.href, target: "_blank", rel: "noopener noreferrer" });
}

function list(token) {
  const made = make(token.ordered ? "ol" : "ul");
  if (token.ordered && Number.isInteger(token.start)) made.start = token.start;
  for (const item of token.items) {
    const entry = make("li", item.tokens);
    if (item.task) entry.prepend(item.checked ? "☑ " : "☐ ");
    made.append(entry);
  }
  return made;
}

function table(token) {
  const row = (cells, tag) => {
    const made = make("tr");
    cells.forEach((cell, column) => {
      const place = make(tag, cell.tokens);
      if (token.align[column]) place.style.textAlign = token.align[column];
      made.append(place);
    });
    return made;
  };
  const head = make("thead");
  const body = make("tbody");
  head.append(row(token.header, "th"));
  body.append(...token.rows.map((cells) => row(cells, "td")));
  const made = make("table");
  made.append(head, body);
  return made;
}

function codeBlock(token) {
  const code = make("code");
  const language = token.lang?.match(/^\S+/)?.[0];
  code.textContent = token.text;
  // Its HTML has spans alone: the text is escaped by the library.
  if (language && hljs.getLanguage(language)) code.innerHTML = hljs.highlight(language, token.text, true).value;
  const block = make("pre");
  block.tabIndex = 0;
  block.append(code);
  return block;
}

function element(token) {
  switch (token.type) {
    case "heading": return make(`h${Math.min(token.depth + 1, 6)}`, token.tokens);
    case "paragraph": return make("p", token.tokens);
    case "blockquote": return make("blockquote", token.tokens);
    case "list": return list(token);
    case "table": return table(token);
    case "code": return codeBlock(token);
    case "hr": return make("hr");
    case "br": return make("br");
    case "strong": return make("strong", token.tokens);
    case "em": return make("em", token.tokens);
    case "del": return make("del", token.tokens);
    case "link": return link(token);
    case "codespan": return Object.assign(make("code"), { textContent: plainText(token.text) });
    case "space": return document.createTextNode("");
    case "text":
      if (token.tokens) return make("span", token.tokens);
      return document.createTextNode(plainText(token.text));
    case "escape": return document.createTextNode(plainText(token.text));
    default: return document.createTextNode(token.raw);
  }
}

// Formulas are taken out before marked sees them, since it would read their backslashes and underscores as its own.
const formula = /(```[\s\S]*?(?:```|$)|`[^`\n]*`)|\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\)|\$(?![\s\d])([^$\n]*[^\s$\\])\$(?!\d)/g;

function withoutFormulas(text) {
  const formulas = [];
  const plain = text.replace(formula, (whole, code, display, bracketed, parenthesised, inline) => {
    if (code !== undefined) return code;
    formulas.push({ text: display ?? bracketed ?? parenthesised ?? inline, display: (display ?? bracketed) !== undefined });
    return `\uE000${formulas.length - 1}\uE001`;
  });
  return { plain, formulas };
}

function putFormulasBack(root, formulas) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) texts.push(walker.currentNode);
  for (const node of texts) {
    const parts = node.data.split(/\uE000(\d+)\uE001/);
    if (parts.length === 1) continue;
    const pieces = parts.map((part, index) => {
      if (index % 2 === 0 || !formulas[part]) return document.createTextNode(part);
      const place = document.createElement("span");
      katex.render(formulas[part].text, place, { displayMode: formulas[part].display, throwOnError: false, trust: false, maxSize: 20, maxExpand: 200 });
      return place;
    });
    node.replaceWith(...pieces);
  }
}

function addCopyButtons(root) {
  for (const block of root.querySelectorAll("pre")) {
    const text = block.textContent;
    const copy = Object.assign(make("button"), { className: "copy", textContent: "Copy", type: "button" });
    copy.setAttribute("aria-label", "Copy the code");
    copy.addEventListener("click", async () => {
      await copyText(text);
      copy.textContent = "Copied";
    });
    block.append(copy);
  }
}

// What cannot be read as markdown is shown as it is.
export function render(target, text) {
  try {
    const { plain, formulas } = withoutFormulas(text.replace(/[\uE000\uE001]/g, ""));
    const root = make("div", marked.lexer(plain, { gfm: true }));
    putFormulasBack(root, formulas);
    addCopyButtons(root);
    target.replaceChildren(...root.childNodes);
  } catch (error) {
    console.error(error);
    target.textContent = text;
  }
}

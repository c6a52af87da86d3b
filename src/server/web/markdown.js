// Text of a model as elements. The text is hostile: marked makes HTML of it, DOMPurify takes out whatever could run or load anything.
/* global marked, DOMPurify, hljs, katex */

const allowed = {
  ALLOWED_TAGS: ["a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "li", "ol", "p", "pre",
    "s", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul"],
  ALLOWED_ATTR: ["href", "class", "align", "start"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  RETURN_DOM_FRAGMENT: true,
};

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

function dressCode(root) {
  for (const block of root.querySelectorAll("pre code")) {
    const language = /language-(\S+)/.exec(block.className)?.[1];
    if (language && hljs.getLanguage(language)) block.innerHTML = hljs.highlight(language, block.textContent, true).value;
    const copy = document.createElement("button");
    copy.className = "copy";
    copy.textContent = "Copy";
    copy.setAttribute("aria-label", "Copy the code");
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.textContent);
      copy.textContent = "Copied";
    });
    block.parentElement.append(copy);
    block.parentElement.tabIndex = 0;
  }
}

export function render(target, text) {
  const { plain, formulas } = withoutFormulas(text.replace(/[\uE000\uE001]/g, ""));
  const fragment = DOMPurify.sanitize(marked.parse(plain, { gfm: true, mangle: false, headerIds: false }), allowed);
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
  putFormulasBack(fragment, formulas);
  dressCode(fragment);
  target.replaceChildren(fragment);
}

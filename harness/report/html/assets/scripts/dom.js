// Builds the page. Text only becomes text nodes, so that nothing in a report can become markup.
function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

const h = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);

const s = (tag, attributes = {}, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const icon = (name) => s("svg", { class: "icon", "aria-hidden": "true" }, s("use", { href: `#icon-${name}` }));

const hidden = (text) => h("span", { class: "hidden" }, text);

// A sentence whose parts between backticks are code.
const sentence = (text) => text.split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part));

// A long name that may break after the separators of its parts, and nowhere within a word.
const breakable = (name) => name.split(/(?<=[/@+?&,_.=([-])(?=.)/).flatMap((part, at) => (at ? [h("wbr"), part] : [part]));

// Show a section of the page, and the link to it.
function reveal(id, count) {
  const section = document.getElementById(id);
  const link = document.querySelector(`nav a[href="#${id}"]`);
  section.hidden = false;
  link.hidden = false;
  if (count !== undefined) link.append(" ", h("span", { class: "count" }, count.toLocaleString("en")));
  return section;
}

// A fold whose content is built when it is first opened.
function fold(attributes, summary, content) {
  const details = h("details", attributes, h("summary", {}, summary));
  details.fill = () => {
    if (details.childElementCount === 1) details.append(content());
  };
  details.addEventListener("toggle", () => details.open && details.fill());
  return details;
}

function copyButton(text, label) {
  const button = h("button", { class: "button", type: "button" }, label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it and copy by hand";
    }
  });
  return button;
}

// A box that scrolls sideways and says so while a part of its content is out of sight.
function scrolled(label, content) {
  const box = h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, content);
  return h("div", {}, box, sideways(box));
}

function sideways(box) {
  const hint = h("p", { class: "sideways small muted", hidden: true }, "There is more to the right: scroll sideways.");
  const look = () => { hint.hidden = box.scrollWidth - box.clientWidth < 2; };
  new ResizeObserver(() => requestAnimationFrame(look)).observe(box);
  return hint;
}

// A long list in pages: `render` makes a page of some items, and a button shows the next page.
function paged(items, atOnce, render, attributes = {}) {
  const holder = h("div", attributes);
  const left = h("span");
  const more = h("p", { class: "rest" }, left, h("button", { class: "button", type: "button", onclick: () => extend() }, "Show more"));
  let from = 0;
  const extend = () => {
    holder.append(render(items.slice(from, from + atOnce)));
    from += atOnce;
    left.textContent = `And ${(items.length - from).toLocaleString("en")} more. `;
    more.hidden = from >= items.length;
  };
  extend();
  return h("div", {}, holder, more);
}

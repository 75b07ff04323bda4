// Making elements.  Names are text, never markup: nothing here parses HTML.

const $ = (id) => document.getElementById(id);
const MANY = 300; // lines shown before "Show all"

// An element with attributes and children; text children become text nodes.
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function shortened(text, limit) {
  if (text.length <= limit) return text;
  const head = Math.floor(((limit - 1) * 2) / 3);
  return `${text.slice(0, head)}…${text.slice(text.length - (limit - 1 - head))}`;
}

const named = (text, limit = 400) => make("bdi", { class: "name", title: text.length > limit ? undefined : text }, shortened(text, limit));
const grouped = new Intl.NumberFormat("en");
const number = (value) => grouped.format(value);
const counted = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : noun.endsWith("x") ? "es" : "s"}`;

// Fill box with up to `many` lines and a button for the next ones.
function fillSlowly(box, items, line, many) {
  const list = box;
  let done = 0;
  function more() {
    for (const item of items.slice(done, done + many)) list.append(line(item));
    done = Math.min(done + many, items.length);
    button.hidden = done >= items.length;
    button.textContent = `Show more (${number(items.length - done)} left)`;
  }
  const button = make("button", { type: "button", class: "more", onclick: more });
  list.after(button);
  more();
}

function emptyState(title, text, action, good) {
  return make("div", { class: "empty" }, good && make("span", { class: "sign", "aria-hidden": "true" }, "✓"), make("b", {}, title), make("p", {}, text), action);
}

// A row of buttons of which one is pressed.
function choices(box, options, chosen, choose) {
  const buttons = options.map(([value, label]) =>
    make("button", { type: "button", "data-value": value, "aria-pressed": String(value === chosen), onclick: () => { mark(value); choose(value); } }, label));
  function mark(value) {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.value === value));
  }
  box.replaceChildren(...buttons);
  return mark;
}

// Call at most once for each frame.
function oncePerFrame(action) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; action(); });
  };
}

function whenTyping(input, action) {
  let timer = 0;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(action, 90);
  });
}

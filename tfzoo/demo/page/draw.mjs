/** What the page's pictures are made of. */

export function element(id) {
  return document.getElementById(id);
}

/** A new element; `content` is its text, or its children. */
export function make(name, className, content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (Array.isArray(content)) made.append(...content);
  else if (content !== undefined) made.textContent = content;
  return made;
}

export function percent(probability) {
  return `${(100 * probability).toFixed(1)} %`;
}

/** A label, its probability, and a bar as long as it is probable. */
export function candidate(text, probability, { chosen = false, special = false } = {}) {
  const label = make("span", special ? "label special" : "label", text);
  label.title = text;
  const bar = make("span", "bar");
  bar.style.width = `${100 * probability}%`;
  bar.setAttribute("aria-hidden", "true");
  return make("li", chosen ? "candidate chosen" : "candidate", [label, make("span", "", percent(probability)), bar]);
}

/** A box for each token: its candidates, {id, probability}, the chosen one first. */
export function tokenBoxes(tokenizer, tokens) {
  const boxes = make(
    "ol",
    "",
    tokens.map((found) => {
      const candidates = found.map(({ id, probability }, index) =>
        candidate(tokenizer.label(id), probability, { chosen: index === 0, special: tokenizer.isSpecial(id) }),
      );
      return make("li", "", [make("ul", "", candidates)]);
    }),
  );
  boxes.id = "tokens";
  return boxes;
}

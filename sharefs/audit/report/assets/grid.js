// The matrix on a canvas that scrolls natively: only what is seen is drawn, whatever its size.

const CELL = 22, LINE = 1;

class Grid {
  // chosen(mailbox, user): a cell; either is -1 for a whole row or column.
  constructor(access, chosen) {
    this.access = access;
    this.chosen = chosen;
    this.box = $("grid");
    this.space = this.box.querySelector(".grid-space");
    this.canvas = this.box.querySelector("canvas");
    this.pen = this.canvas.getContext("2d", { alpha: false });
    this.rows = [];
    this.columns = [];
    this.active = { row: 0, column: 0 };
    this.hover = null;
    this.tiles = new Map();
    this.texts = new Map();
    this.redraw = oncePerFrame(() => this.draw());
    this.box.addEventListener("scroll", this.redraw, { passive: true });
    this.box.addEventListener("keydown", (event) => this.onKey(event));
    this.box.addEventListener("pointermove", (event) => this.onHover(event));
    this.box.addEventListener("pointerleave", () => this.setHover(null));
    this.box.addEventListener("click", (event) => this.onClick(event));
    this.box.addEventListener("focus", this.redraw);
    this.box.addEventListener("blur", this.redraw);
    new ResizeObserver(() => this.measure()).observe(this.box.parentElement);
  }

  // Show these mailboxes and users, by number.
  show(rows, columns) {
    this.rows = rows;
    this.columns = columns;
    this.active = { row: Math.min(this.active.row, Math.max(rows.length - 1, 0)), column: Math.min(this.active.column, Math.max(columns.length - 1, 0)) };
    this.box.setAttribute("aria-rowcount", rows.length);
    this.box.setAttribute("aria-colcount", columns.length);
    this.measure();
    this.announce();
  }

  // Sizes follow the window; the sides are as wide as the names need, within limits.
  measure() {
    const outer = this.box.parentElement.clientWidth;
    if (!outer) return;
    this.font = getComputedStyle(document.body).fontFamily;
    this.pen.font = `13px ${this.font}`;
    const longest = (numbers, names, limit) => {
      let most = 0;
      for (let at = 0; at < Math.min(numbers.length, 400); at++) most = Math.max(most, this.pen.measureText(shortened(names[numbers[at]], 60)).width);
      return Math.min(Math.ceil(most) + 22, limit);
    };
    this.side = Math.max(longest(this.rows, this.access.mailboxes, Math.max(120, Math.min(300, outer * 0.36))), 90);
    this.top = Math.max(longest(this.columns, this.access.users, 132), 54);
    this.total = { width: this.side + this.columns.length * CELL + 8, height: this.top + this.rows.length * CELL + 8 };
    this.space.style.width = `${this.total.width}px`;
    this.space.style.height = `${this.total.height}px`;
    const limit = Math.min(innerHeight * 0.7, 704);
    const bar = this.total.width > outer ? this.box.offsetHeight - this.box.clientHeight : 2;
    this.box.style.height = `${Math.min(limit, this.total.height + Math.max(bar, 2))}px`;
    this.size = { width: Math.min(this.box.clientWidth, this.total.width), height: Math.min(this.box.clientHeight, this.total.height) };
    this.scale = Math.min(devicePixelRatio || 1, 3);
    this.canvas.width = Math.round(this.size.width * this.scale);
    this.canvas.height = Math.round(this.size.height * this.scale);
    this.canvas.style.width = `${this.size.width}px`;
    this.canvas.style.height = `${this.size.height}px`;
    this.restyle();
  }

  restyle() {
    const style = getComputedStyle(document.documentElement);
    this.colour = (name) => style.getPropertyValue(`--${name}`).trim();
    this.tints = Object.fromEntries(["raised", "sunken", "line", "line-strong", "ink", "soft", "faint", "focus", "accent-wash"].map((name) => [name, this.colour(name)]));
    this.tiles.clear();
    this.texts.clear();
    this.redraw();
  }

  // One picture for each kind of cell that looks different.
  tile(number, own) {
    const cell = this.access.palette[number], plain = own && cell.level === 4 && !cell.blocked && !cell.leaked;
    const key = cell.unknown ? "?" : plain ? "own" : `${cell.level}${cell.blocked ? "b" : ""}${cell.leaked ? "l" : ""}`;
    let tile = this.tiles.get(key);
    if (tile === undefined) this.tiles.set(key, (tile = plain ? paintOwn(this.colour, this.scale) : paintTile(cell, this.colour, this.scale, this.font)));
    return tile;
  }

  // A name cut to the space it has, remembered.
  fitted(text, width, font) {
    const key = `${font}\n${width}\n${text}`;
    let fit = this.texts.get(key);
    if (fit === undefined) {
      this.pen.font = font;
      let length = Math.min(text.length, 200);
      fit = shortened(text, length);
      while (length > 4 && this.pen.measureText(fit).width > width) fit = shortened(text, (length = Math.min(length - 1, Math.ceil(length * 0.94))));
      fit = `\u2068${fit}\u2069`;
      if (this.texts.size > 20000) this.texts.clear();
      this.texts.set(key, fit);
    }
    return fit;
  }

  draw() {
    if (!this.size || !this.tints) return;
    const { pen, tints, side, top, size } = this;
    const left = this.box.scrollLeft, down = this.box.scrollTop;
    const firstRow = Math.floor(down / CELL), lastRow = Math.min(this.rows.length, Math.ceil((down + size.height - top) / CELL));
    const firstColumn = Math.floor(left / CELL), lastColumn = Math.min(this.columns.length, Math.ceil((left + size.width - side) / CELL));
    const focused = document.activeElement === this.box;
    const at = this.hover || (focused ? this.active : null);
    pen.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    pen.direction = "ltr";
    pen.fillStyle = tints.raised;
    pen.fillRect(0, 0, size.width, size.height);
    pen.save();
    pen.beginPath();
    pen.rect(side, top, size.width - side, size.height - top);
    pen.clip();
    if (at) {
      pen.fillStyle = tints.sunken;
      if (at.row >= 0) pen.fillRect(side, top + at.row * CELL - down, size.width, CELL);
      if (at.column >= 0) pen.fillRect(side + at.column * CELL - left, top, CELL, size.height);
    }
    const { cells, width, owners } = this.access;
    for (let row = firstRow; row < lastRow; row++) {
      const base = this.rows[row] * width, y = top + row * CELL - down, owner = owners[this.rows[row]];
      if (row > 0 && owner !== owners[this.rows[row - 1]]) {
        pen.fillStyle = tints.line;
        pen.fillRect(side, y, size.width, LINE);
      }
      for (let column = firstColumn; column < lastColumn; column++) {
        const user = this.columns[column], tile = this.tile(cells[base + user], user === owner);
        if (tile) pen.drawImage(tile, side + column * CELL - left, y, CELL, CELL);
      }
    }
    if (focused && this.rows.length && this.columns.length) {
      pen.strokeStyle = tints.focus;
      pen.lineWidth = 2;
      pen.strokeRect(side + this.active.column * CELL - left + 1, top + this.active.row * CELL - down + 1, CELL - 2, CELL - 2);
    }
    pen.restore();
    this.drawSide(firstRow, lastRow, down, at);
    this.drawTop(firstColumn, lastColumn, left, at);
    pen.fillStyle = tints.raised;
    pen.fillRect(0, 0, side, top);
    pen.fillStyle = tints.line;
    pen.fillRect(0, top - LINE, size.width, LINE);
    pen.fillRect(side - LINE, 0, LINE, size.height);
    pen.font = `12px ${this.font}`;
    pen.fillStyle = tints.faint;
    pen.textAlign = "left";
    pen.textBaseline = "alphabetic";
    pen.fillText("Mailboxes ↓", 10, top - 10);
    pen.textAlign = "right";
    pen.fillText("Users →", side - 10, 20);
  }

  drawSide(first, last, down, at) {
    const { pen, tints, side, top, size } = this;
    pen.save();
    pen.beginPath();
    pen.rect(0, top, side, size.height - top);
    pen.clip();
    pen.fillStyle = tints.raised;
    pen.fillRect(0, top, side, size.height);
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    const font = `13px ${this.font}`;
    for (let row = first; row < last; row++) {
      const y = top + row * CELL - down, name = this.access.mailboxes[this.rows[row]], { owners } = this.access;
      const marked = at && at.row === row;
      if (marked) {
        pen.fillStyle = tints.sunken;
        pen.fillRect(0, y, side, CELL);
      }
      if (row > 0 && owners[this.rows[row]] !== owners[this.rows[row - 1]]) {
        pen.fillStyle = tints.line;
        pen.fillRect(0, y, side, LINE);
      }
      const text = this.fitted(name, side - 20, font);
      pen.font = font;
      const cut = text.lastIndexOf("/") + 1;
      if (cut > 1 && text.length < 200 && /^[\u2068\x20-\x7e…]*\u2069$/.test(text)) {
        // The way there is softer than the name itself; both in one direction, so that it may be cut.
        const way = text.slice(1, cut);
        pen.fillStyle = tints.faint;
        pen.fillText(way, 10, y + CELL / 2 + 0.5);
        const offset = pen.measureText(way).width;
        pen.fillStyle = tints.ink;
        pen.fillText(text.slice(cut, -1), 10 + offset, y + CELL / 2 + 0.5);
      } else {
        pen.fillStyle = tints.ink;
        pen.fillText(text, 10, y + CELL / 2 + 0.5);
      }
    }
    pen.restore();
  }

  drawTop(first, last, left, at) {
    const { pen, tints, side, top, size } = this;
    pen.save();
    pen.beginPath();
    pen.rect(side, 0, size.width - side, top);
    pen.clip();
    pen.fillStyle = tints.raised;
    pen.fillRect(side, 0, size.width, top);
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    const font = `13px ${this.font}`;
    for (let column = first; column < last; column++) {
      const x = side + column * CELL - left, user = this.columns[column];
      if (at && at.column === column) {
        pen.fillStyle = tints.sunken;
        pen.fillRect(x, 0, CELL, top);
      }
      const text = this.fitted(this.access.users[user], top - 18, font);
      pen.font = font;
      pen.fillStyle = tints.ink;
      pen.save();
      pen.translate(x + CELL / 2 + 0.5, top - 9);
      pen.rotate(-Math.PI / 2);
      pen.fillText(text, 0, 0);
      pen.restore();
    }
    pen.restore();
  }

  // What is at a point of the screen: row and column, -1 for the names beside and above.
  find(event) {
    const frame = this.canvas.getBoundingClientRect();
    const x = event.clientX - frame.left, y = event.clientY - frame.top;
    if (x < 0 || y < 0 || x > frame.width || y > frame.height) return null;
    const column = x < this.side ? -1 : Math.floor((x - this.side + this.box.scrollLeft) / CELL);
    const row = y < this.top ? -1 : Math.floor((y - this.top + this.box.scrollTop) / CELL);
    if ((row < 0 && column < 0) || row >= this.rows.length || column >= this.columns.length) return null;
    return { row, column };
  }

  onHover(event) {
    if (event.pointerType === "mouse") this.setHover(this.find(event));
  }

  setHover(found) {
    if (found?.row === this.hover?.row && found?.column === this.hover?.column) return;
    this.hover = found;
    const { access } = this;
    $("hover-line").textContent = !found ? "" : found.row < 0 ? shortened(access.users[this.columns[found.column]], 200)
      : found.column < 0 ? shortened(access.mailboxes[this.rows[found.row]], 200)
      : access.sentence(this.rows[found.row], this.columns[found.column]);
    this.box.style.cursor = found ? "pointer" : "";
    this.redraw();
  }

  onClick(event) {
    const found = this.find(event);
    if (!found) return;
    if (found.row >= 0 && found.column >= 0) this.moveTo(found.row, found.column);
    this.chosen(found.row < 0 ? -1 : this.rows[found.row], found.column < 0 ? -1 : this.columns[found.column]);
  }

  onKey(event) {
    if (event.altKey || event.metaKey || !this.rows.length || !this.columns.length) return;
    const { row, column } = this.active;
    const page = Math.max(1, Math.floor((this.size.height - this.top) / CELL) - 1);
    const lastRow = this.rows.length - 1, lastColumn = this.columns.length - 1;
    const to = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      PageUp: [row - page, column], PageDown: [row + page, column],
      Home: event.ctrlKey ? [0, 0] : [row, 0], End: event.ctrlKey ? [lastRow, lastColumn] : [row, lastColumn],
    }[event.key];
    if (to) this.moveTo(Math.max(0, Math.min(to[0], lastRow)), Math.max(0, Math.min(to[1], lastColumn)));
    else if (event.ctrlKey) return;
    else if (event.key === "Enter" || event.key === " ") this.chosen(this.rows[row], this.columns[column]);
    else if (event.key === "m") this.chosen(this.rows[row], -1);
    else if (event.key === "u") this.chosen(-1, this.columns[column]);
    else if (event.key === "n" || event.key === "p") this.jump(event.key === "n" ? 1 : -1);
    else return;
    event.preventDefault();
  }

  // To the next cell where the ACL and the kernel disagree, around the corner if need be.
  jump(step) {
    const wanted = this.access.picked((cell) => cell.blocked || cell.leaked);
    const wide = this.columns.length, all = this.rows.length * wide;
    let at = this.active.row * wide + this.active.column;
    for (let tried = 0; tried < all; tried++) {
      at = (at + step + all) % all;
      const row = Math.floor(at / wide), column = at % wide;
      if (wanted[this.access.numberAt(this.rows[row], this.columns[column])]) return this.moveTo(row, column);
    }
  }

  moveTo(row, column) {
    this.active = { row, column };
    const x = column * CELL, y = row * CELL;
    const seen = { x: this.size.width - this.side - CELL, y: this.size.height - this.top - CELL };
    if (x < this.box.scrollLeft) this.box.scrollLeft = x;
    else if (x > this.box.scrollLeft + seen.x) this.box.scrollLeft = x - seen.x + 8;
    if (y < this.box.scrollTop) this.box.scrollTop = y;
    else if (y > this.box.scrollTop + seen.y) this.box.scrollTop = y - seen.y + 8;
    this.announce();
    this.redraw();
  }

  // The cell that assistive technology sees: the canvas is only a picture to it.
  announce() {
    const { row, column } = this.active, cell = $("active-cell");
    $("active-row").setAttribute("aria-rowindex", row + 1);
    cell.setAttribute("aria-colindex", column + 1);
    cell.textContent = this.rows.length && this.columns.length ? this.access.sentence(this.rows[row], this.columns[column]) : "No cells";
  }

  // Make a mailbox's row (and a user's column) the active one.  false: it is filtered out.
  reveal(mailbox, user) {
    const row = this.rows.indexOf(mailbox), column = user < 0 ? this.active.column : this.columns.indexOf(user);
    if (row < 0 || column < 0) return false;
    this.measure(); // the panel may just have taken some of the width
    this.moveTo(row, column);
    this.uncover(row);
    return true;
  }

  // On a phone the panel lies over the matrix: move the page until the row stands above it.
  uncover(row) {
    const panel = $("panel");
    if (panel.hidden || getComputedStyle(panel).position !== "fixed") return;
    const below = this.box.getBoundingClientRect().top + this.top + (row + 1) * CELL - this.box.scrollTop;
    scrollBy(0, Math.max(0, below + CELL - panel.getBoundingClientRect().top));
  }
}

// The owner's own mailbox, as it must be: hardly there, so that shares stand out.
function paintOwn(colour, scale) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = Math.round(CELL * scale);
  const pen = tile.getContext("2d");
  pen.scale(tile.width / CELL, tile.height / CELL);
  pen.beginPath();
  pen.arc(CELL / 2, CELL / 2, 3, 0, Math.PI * 2);
  pen.fillStyle = colour("line-strong");
  pen.fill();
  return tile;
}

// The picture of a cell: the deeper, the more may be done; a corner where the kernel denies, a diamond where it leaks.
function paintTile(cell, colour, scale, font) {
  if (!cell.unknown && !cell.level && !cell.blocked && !cell.leaked) return null;
  const tile = document.createElement("canvas");
  tile.width = tile.height = Math.round(CELL * scale);
  const pen = tile.getContext("2d"), inner = CELL - 4;
  pen.scale(tile.width / CELL, tile.height / CELL);
  const rounded = () => { pen.beginPath(); pen.roundRect ? pen.roundRect(2, 2, inner, inner, 4) : pen.rect(2, 2, inner, inner); };
  const [fill, ink, letter] = [[null, "faint", ""], ["see", "soft", "l"], ["read", "on-read", "r"], ["write", "on-write", "w"], ["own", "on-own", "a"]][cell.level];
  if (fill) {
    rounded();
    pen.fillStyle = colour(fill);
    pen.fill();
  }
  if (cell.blocked) {
    pen.save();
    rounded();
    pen.clip();
    pen.fillStyle = colour("blocked");
    pen.beginPath();
    pen.moveTo(CELL - 2, CELL - 2);
    pen.lineTo(CELL - 2, CELL - 13);
    pen.lineTo(CELL - 13, CELL - 2);
    pen.fill();
    pen.restore();
    if (!fill) {
      rounded();
      pen.strokeStyle = colour("blocked");
      pen.lineWidth = 1.25;
      pen.stroke();
    }
  }
  const text = cell.unknown ? "?" : letter;
  if (text && !cell.leaked) {
    pen.font = `600 11px ${font}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillStyle = colour(cell.unknown ? "faint" : ink);
    pen.fillText(text, CELL / 2 - (cell.blocked ? 1.5 : 0), CELL / 2 + 0.5 - (cell.blocked ? 1 : 0));
  }
  if (cell.leaked) {
    pen.save();
    pen.translate(CELL / 2, CELL / 2);
    pen.rotate(Math.PI / 4);
    pen.fillStyle = colour("leak");
    pen.fillRect(-4.6, -4.6, 9.2, 9.2);
    pen.restore();
  }
  return tile;
}

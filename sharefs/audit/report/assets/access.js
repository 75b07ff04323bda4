// The access matrix as typed arrays, and what can be asked of it.

const LETTER_WORDS = {
  l: "see that it exists", r: "read messages", w: "change flags", s: "mark as seen", t: "mark as deleted", i: "add messages", p: "post by delivery",
  e: "remove messages", k: "create mailboxes below", x: "delete the mailbox", a: "change who has access",
};
// A cell that is as it must be: the owner's own mailbox.
const isOwn = (access, mailbox, user) => access.owners[mailbox] === user;
const LEVELS = ["nothing", "sees that it exists", "reads", "reads and writes", "administers"];

// How much a mask of rights comes to: an index of LEVELS.  Marking as seen is part of reading.
function levelOf(mask, letters) {
  const has = (wanted) => [...wanted].some((letter) => mask & (1 << letters.indexOf(letter)));
  return has("a") ? 4 : has("wtipekx") ? 3 : has("r") ? 2 : has("l") ? 1 : 0;
}

class Access {
  constructor(data, cells) {
    this.users = data.users;
    this.mailboxes = data.mailboxes;
    this.owners = data.owners;
    this.paths = data.paths;
    this.logins = data.logins;
    this.letters = data.letters;
    this.cells = cells;
    this.width = data.users.length;
    this.palette = data.palette.map(([acl, kernel, shell, unknown]) => {
      const known = unknown ? 0 : ~0;
      const effective = acl & kernel & known;
      return { acl, kernel, shell, unknown: Boolean(unknown), effective, blocked: acl & ~kernel & known, leaked: shell & ~acl & known, level: levelOf(effective, data.letters) };
    });
    this.notes = new Map(data.reasons.map(([mailbox, user, text]) => [mailbox * this.width + user, text]));
  }

  numberAt(mailbox, user) { return this.cells[mailbox * this.width + user]; }
  at(mailbox, user) { return this.palette[this.numberAt(mailbox, user)]; }
  note(mailbox, user) { return this.notes.get(mailbox * this.width + user); }
  written(mask) { return [...this.letters].filter((_, bit) => mask & (1 << bit)).join("") || "–"; }

  // A yes or no for each number of the palette.
  picked(test) { return Uint8Array.from(this.palette, (cell) => (test(cell) ? 1 : 0)); }

  // Which mailboxes and users have a cell that is picked.
  // others: the owner's own cells do not count.
  touched(picked, others) {
    const mailboxes = new Uint8Array(this.mailboxes.length), users = new Uint8Array(this.width);
    let total = 0, at = 0;
    for (let mailbox = 0; mailbox < mailboxes.length; mailbox++) {
      for (let user = 0; user < this.width; user++) {
        if (picked[this.cells[at++]] && !(others && isOwn(this, mailbox, user))) {
          mailboxes[mailbox] = users[user] = 1;
          total++;
        }
      }
    }
    return { mailboxes, users, total };
  }

  // In words, for a cell's label and the line below the grid.
  sentence(mailbox, user) {
    const cell = this.at(mailbox, user);
    const parts = [];
    if (cell.unknown) parts.push("not known");
    else {
      parts.push(LEVELS[cell.level]);
      if (cell.blocked) parts.push(`the kernel denies ${this.written(cell.blocked)}`);
      if (cell.leaked) parts.push(`leak: a shell has ${this.written(cell.leaked)}`);
    }
    return `${shortened(this.users[user], 80)}, ${shortened(this.mailboxes[mailbox], 120)}: ${parts.join("; ")}`;
  }
}

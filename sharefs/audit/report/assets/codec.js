// Octets from text: base64, and deflate for browsers that cannot inflate by themselves (RFC 1950, RFC 1951).

function octetsOf(base64) {
  const text = atob(base64.trim());
  const octets = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) octets[at] = text.charCodeAt(at);
  return octets;
}

// The octets that a zlib stream holds; size: how many they are.
async function inflate(octets, size) {
  if (typeof DecompressionStream !== "function") return inflateHere(octets, size);
  const stream = new Blob([octets]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const LENGTH_BASE = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const CODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

function inflateHere(octets, size) {
  const out = new Uint8Array(size);
  let at = 2, hold = 0, have = 0, written = 0;

  function bits(count) {
    while (have < count) {
      if (at >= octets.length) throw new Error("the data of this report is cut short");
      hold |= octets[at++] << have;
      have += 8;
    }
    const value = hold & ((1 << count) - 1);
    hold >>>= count;
    have -= count;
    return value;
  }

  // Canonical Huffman codes: how many of each length, and the symbols in order.
  function tableOf(lengths) {
    const counts = new Uint16Array(16), starts = new Uint16Array(16), symbols = new Uint16Array(lengths.length);
    for (const length of lengths) counts[length]++;
    counts[0] = 0;
    for (let length = 1; length < 15; length++) starts[length + 1] = starts[length] + counts[length];
    lengths.forEach((length, symbol) => { if (length) symbols[starts[length]++] = symbol; });
    return { counts, symbols };
  }

  function symbolOf(table) {
    let code = 0, first = 0, index = 0;
    for (let length = 1; length < 16; length++) {
      code |= bits(1);
      const count = table.counts[length];
      if (code - count < first) return table.symbols[index + code - first];
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    throw new Error("the data of this report is damaged");
  }

  function dynamicTables() {
    const literals = bits(5) + 257, distances = bits(5) + 1, codes = bits(4) + 4;
    const codeLengths = new Array(19).fill(0);
    for (let number = 0; number < codes; number++) codeLengths[CODE_ORDER[number]] = bits(3);
    const codeTable = tableOf(codeLengths), lengths = [];
    while (lengths.length < literals + distances) {
      const symbol = symbolOf(codeTable);
      if (symbol < 16) lengths.push(symbol);
      else {
        const value = symbol === 16 ? lengths[lengths.length - 1] : 0;
        const times = symbol === 16 ? 3 + bits(2) : symbol === 17 ? 3 + bits(3) : 11 + bits(7);
        for (let time = 0; time < times; time++) lengths.push(value);
      }
    }
    return [tableOf(lengths.slice(0, literals)), tableOf(lengths.slice(literals))];
  }

  function fixedTables() {
    const lengths = Array.from({ length: 288 }, (_, symbol) => (symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8));
    return [tableOf(lengths), tableOf(new Array(30).fill(5))];
  }

  for (let last = false; !last;) {
    last = bits(1) === 1;
    const kind = bits(2);
    if (kind === 0) {
      hold = have = 0;
      const length = octets[at] | (octets[at + 1] << 8);
      out.set(octets.subarray(at + 4, at + 4 + length), written);
      at += 4 + length;
      written += length;
      continue;
    }
    const [literal, distance] = kind === 1 ? fixedTables() : dynamicTables();
    for (let symbol = symbolOf(literal); symbol !== 256; symbol = symbolOf(literal)) {
      if (symbol < 256) {
        out[written++] = symbol;
        continue;
      }
      let length = LENGTH_BASE[symbol - 257] + bits(LENGTH_EXTRA[symbol - 257]);
      const code = symbolOf(distance), extra = code < 4 ? 0 : (code >> 1) - 1;
      let from = written - (code < 4 ? code + 1 : (1 << extra) * (2 + (code & 1)) + 1 + bits(extra));
      while (length--) out[written++] = out[from++];
    }
  }
  return out;
}

// NumPy's archives of arrays, read and written. An array is {dtype, shape, data}; a text of NumPy is {text}.

const ARRAYS = {
  "<f4": Float32Array, "<f8": Float64Array, "<i8": BigInt64Array, "<i4": Int32Array, "<i2": Int16Array,
  "|i1": Int8Array, "|u1": Uint8Array, "|b1": Uint8Array,
};
const NAMES = { float32: "<f4", float64: "<f8", int64: "<i8", int32: "<i4", int8: "|i1", uint8: "|u1", bool: "|b1" };
const DTYPES = Object.fromEntries(Object.entries(NAMES).map(([dtype, name]) => [name, dtype]));
const STORED = 0, DEFLATED = 8;

/** Read an archive, an ArrayBuffer; gives a Map of arrays by name. */
export async function readNpz(buffer) {
  const view = new DataView(buffer);
  let end = buffer.byteLength - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error("this is no .npz file");
  const found = new Map();
  let place = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left; left--) {
    const [method, size] = [view.getUint16(place + 10, true), view.getUint32(place + 20, true)];
    const [name, extra, comment] = [28, 30, 32].map((at) => view.getUint16(place + at, true));
    const local = view.getUint32(place + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const key = new TextDecoder().decode(new Uint8Array(buffer, place + 46, name));
    if (![STORED, DEFLATED].includes(method)) throw new Error(`${key}: is compressed in a way that NumPy does not use`);
    const packed = buffer.slice(start, start + size);
    found.set(key.replace(/\.npy$/, ""), readNpy(method === STORED ? packed : await inflate(packed)));
    place += 46 + name + extra + comment;
  }
  return found;
}

async function inflate(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(stream).arrayBuffer();
}

function readNpy(buffer) {
  const view = new DataView(buffer);
  const long = view.getUint8(6) > 1;
  const start = (long ? 12 : 10) + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder().decode(new Uint8Array(buffer, 10, start - 10));
  const kind = /'descr': '([^']*)'/.exec(header)[1];
  const shape = /'shape': \(([^)]*)\)/.exec(header)[1].split(",").filter((size) => size.trim()).map(Number);
  const data = buffer.slice(start);
  if (kind.startsWith("<U")) return { text: [...new Uint32Array(data)].map((c) => String.fromCodePoint(c)).join("") };
  if (!ARRAYS[kind]) throw new Error(`arrays of ${kind} are not read`);
  if (header.includes("'fortran_order': True")) throw new Error("arrays in Fortran's order are not read");
  return { dtype: DTYPES[kind], shape, data: new ARRAYS[kind](data) };
}

/** Write arrays, and texts, by name; gives the bytes of an archive. */
export function writeNpz(entries) {
  const parts = [], central = [];
  let size = 0;
  for (const [name, entry] of Object.entries(entries)) {
    const content = writeNpy(entry);
    const key = new TextEncoder().encode(`${name}.npy`);
    // version needed, flags, method, time, date (1980), checksum, both sizes, length of the name, none of extras
    const about = [[20, 2], [0x800, 2], [STORED, 2], [0, 2], [0x21, 2], [crc32(content), 4], [content.length, 4]];
    about.push([content.length, 4], [key.length, 2], [0, 2]);
    const local = numbers([[0x04034b50, 4], ...about]);
    central.push(numbers([[0x02014b50, 4], [20, 2], ...about, [0, 2], [0, 2], [0, 2], [0, 4], [size, 4]]), key);
    parts.push(local, key, content);
    size += local.length + key.length + content.length;
  }
  const count = Object.keys(entries).length;
  const length = central.reduce((sum, part) => sum + part.length, 0);
  const end = numbers([[0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [length, 4], [size, 4], [0, 2]]);
  return join([...parts, ...central, end]);
}

function writeNpy(entry) {
  const text = entry.text === undefined ? null : [...entry.text].map((c) => c.codePointAt(0));
  const kind = text ? `<U${text.length}` : NAMES[entry.dtype];
  if (!kind) throw new Error(`arrays of ${entry.dtype} are not written`);
  const data = text ? new Uint32Array(text) : entry.data;
  const sizes = (text ? [] : entry.shape).map((number) => `${number},`).join(" ");
  let header = `{'descr': '${kind}', 'fortran_order': False, 'shape': (${sizes}), }`;
  header = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11) + "\n";
  const start = [0x93, 78, 85, 77, 80, 89, 1, 0, header.length & 255, header.length >> 8];
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return join([new Uint8Array(start), new TextEncoder().encode(header), bytes]);
}

function numbers(pairs) {
  const view = new DataView(new ArrayBuffer(pairs.reduce((sum, [, width]) => sum + width, 0)));
  let place = 0;
  for (const [value, width] of pairs) {
    if (width === 2) view.setUint16(place, value, true);
    else view.setUint32(place, value, true);
    place += width;
  }
  return new Uint8Array(view.buffer);
}

function join(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

function crc32(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = (sum >>> 8) ^ CRC[(sum ^ byte) & 255];
  return ~sum >>> 0;
}

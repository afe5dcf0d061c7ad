/** CRC-32C (Castagnoli, RFC 3720 B.4), as Cloud Storage shows it: base64 of four bytes, the highest first. */
const table = new Uint32Array(256);
for (let byte = 0; byte < 256; byte++) {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  table[byte] = value;
}

/** @param {Uint8Array} bytes */
export function crc32c(bytes) {
  let value = 0xffffffff;
  for (let index = 0; index < bytes.length; index++)
    value = (value >>> 8) ^ table[(value ^ bytes[index]) & 0xff];
  const result = Buffer.alloc(4);
  result.writeUInt32BE((value ^ 0xffffffff) >>> 0);
  return result.toString('base64');
}

/** Decodes a key of a listing with encoding-type `url`; `undefined` where it is not UTF-8. */
export function decodeKey(encoded: string): string | undefined {
  try {
    return decodeURIComponent(encoded.replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}

/** `bucket/key` as the copy-source header wants it. */
export function copySource(bucket: string, object: string): string {
  return `${bucket}/${object.split('/').map(encodeURIComponent).join('/')}`;
}

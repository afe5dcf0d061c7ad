/**
 * The three ways of putting content: in one piece, with its metadata in front, and resumable in chunks.
 * Source: https://cloud.google.com/storage/docs/uploads-downloads and .../performing-resumable-uploads
 */
import { randomUUID } from 'node:crypto';
import { integer, Refusal } from './refusal.mjs';

const QUANTUM = 256 * 1024;

/** Checksums that a client sends beside the content. @param {import('node:http').IncomingHttpHeaders} headers */
function announced(headers) {
  const found = {};
  for (const part of String(headers['x-goog-hash'] ?? '').split(',')) {
    const [, name, value] = /^\s*(crc32c|md5)=(.+?)\s*$/.exec(part) ?? [];
    if (name !== undefined) found[name === 'md5' ? 'md5Hash' : name] = value;
  }
  if (headers['content-md5'] !== undefined) found.md5Hash = String(headers['content-md5']);
  return found;
}

/** @param {Buffer} bytes */
function parsed(bytes) {
  try {
    return bytes.length === 0 ? {} : JSON.parse(bytes.toString());
  } catch {
    throw new Refusal(400, 'Parse Error');
  }
}

/** The two parts of multipart/related: metadata, content. RFC 2387. @param {Buffer} body @param {string} type */
function related(body, type) {
  const boundary = /boundary="?([^";]+)"?/.exec(type)?.[1];
  if (boundary === undefined) throw new Refusal(400, 'Missing multipart boundary');
  const marker = Buffer.from(`--${boundary}`);
  const parts = [];
  for (let start = body.indexOf(marker); start >= 0; ) {
    const from = start + marker.length;
    if (body.subarray(from, from + 2).toString() === '--') break;
    const next = body.indexOf(Buffer.concat([Buffer.from('\r\n'), marker]), from);
    if (next < 0) throw new Refusal(400, 'Unterminated multipart body');
    const head = body.indexOf('\r\n\r\n', from);
    parts.push({ head: body.subarray(from, head).toString(), bytes: body.subarray(head + 4, next) });
    start = next + 2;
  }
  if (parts.length !== 2) throw new Refusal(400, `A multipart upload has two parts, not ${parts.length}`);
  const contentType = /content-type:\s*(\S+)/i.exec(parts[1].head)?.[1];
  return {
    metadata: { ...(contentType && { contentType }), ...parsed(parts[0].bytes) },
    content: parts[1].bytes,
  };
}

export class Uploads {
  /** @type {Map<string, any>} */
  #sessions = new Map();

  /** @param {import('./bucket.mjs').Bucket} bucket @param {Buffer} body @returns {any} the object */
  simple(bucket, query, headers, body) {
    const metadata = {
      contentType: headers['content-type'] ?? 'application/octet-stream',
      ...announced(headers),
    };
    return bucket.insert(
      query.name ?? '',
      body,
      { ...metadata, contentEncoding: query.contentEncoding },
      query,
    );
  }

  multipart(bucket, query, headers, body) {
    const { metadata, content } = related(body, String(headers['content-type']));
    return bucket.insert(
      query.name ?? metadata.name ?? '',
      content,
      { ...metadata, ...announced(headers) },
      query,
    );
  }

  /** Opens a session; answers its id. Preconditions are judged when it is opened and again at its end. */
  open(bucket, query, headers, body) {
    const metadata = { contentType: headers['x-upload-content-type'], ...parsed(body) };
    const name = query.name ?? metadata.name ?? '';
    bucket.constructor.require(bucket.peek(name), query);
    const id = randomUUID();
    this.#sessions.set(id, {
      bucket,
      name,
      query,
      metadata: { ...metadata, ...announced(headers) },
      expected: integer(headers['x-upload-content-length'], 'X-Upload-Content-Length'),
      chunks: [],
      received: 0,
      object: undefined,
    });
    return id;
  }

  /** Answers the object when it is complete, else how many bytes have arrived. @param {Buffer} body */
  proceed(id, headers, body) {
    const session = this.#sessions.get(id);
    if (session === undefined) throw new Refusal(410, 'The upload session is gone');
    if (session.object !== undefined) return { object: session.object };
    const range = headers['content-range'];
    const [, first, last, total] = /^bytes (?:(\d+)-(\d+|\*)|\*)\/(\d+|\*)$/.exec(range ?? `bytes */*`) ?? [];
    if (total === undefined) throw new Refusal(400, `Invalid Content-Range ${range}`);
    let final = range === undefined;
    if (first !== undefined) {
      // `0-*/*`: a stream whose length its sender did not know; it ends with the request.
      const length = last === '*' ? body.length : Number(last) - Number(first) + 1;
      if (length !== body.length) throw new Refusal(400, `${body.length} bytes came instead of ${length}`);
      if (Number(first) > session.received)
        throw new Refusal(400, `byte ${session.received} is the next to send`);
      // What has arrived already is not taken again.
      body = body.subarray(session.received - Number(first));
      final = last === '*' || (total !== '*' && Number(last) + 1 === Number(total));
      if (!final && length % QUANTUM !== 0)
        throw new Refusal(400, `a chunk must be a multiple of ${QUANTUM} bytes`);
    } else if (range !== undefined) {
      final = total !== '*' && Number(total) === session.received;
    }
    session.chunks.push(Buffer.from(body));
    session.received += body.length;
    if (!final) return { received: session.received };
    if (session.expected !== undefined && Number(session.expected) !== session.received) {
      throw new Refusal(400, `${session.received} bytes came, ${session.expected} were announced`);
    }
    const metadata = { ...session.metadata, ...announced(headers) };
    session.object = session.bucket.insert(
      session.name,
      Buffer.concat(session.chunks),
      metadata,
      session.query,
    );
    session.chunks = [];
    return { object: session.object };
  }

  cancel(id) {
    if (!this.#sessions.delete(id)) throw new Refusal(410, 'The upload session is gone');
  }
}

#!/usr/bin/env node
/**
 * An S3 endpoint whose bucket has very many objects that nobody had to store: `many/entry-0000000` and so on, each with its number as content.
 * It answers ListObjectsV2, HEAD and GET, and takes any signature.
 *
 * usage: many-objects.mjs PORT COUNT
 *
 * PORT 0 takes a free one. The first line on stdout is "ready PORT". Commands on stdin, each answered with a line: "hold PAGES" (further pages
 * of `many/` wait), "release", "stats" (JSON: requests by kind). It ends when stdin does.
 * Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
 */
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

const [portText, countText] = process.argv.slice(2);
if (countText === undefined) {
  process.stderr.write('usage: many-objects.mjs PORT COUNT\n');
  process.exit(2);
}
const count = Number(countText);
const FOLDER = 'many/';
const PAGE = 1000;
const MODIFIED = new Date('2026-01-02T03:04:05Z');

const keyOf = (index) => `${FOLDER}entry-${String(index).padStart(7, '0')}`;
const indexOf = (key) => {
  const digits = /^many\/entry-(\d{7})$/.exec(key)?.[1];
  return digits !== undefined && Number(digits) < count ? Number(digits) : undefined;
};
const etagOf = (index) => index.toString(16).padStart(32, '0');

const stats = { list: 0, pages: 0, head: 0, get: 0, other: 0 };
let allowed = Number.POSITIVE_INFINITY;
let waiting = [];

function listing(query) {
  const prefix = query.get('prefix') ?? '';
  const size = Math.min(Number(query.get('max-keys') ?? PAGE), PAGE);
  const answer = (content, truncated = false) =>
    `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType>` +
    `<Prefix>${encodeURIComponent(prefix)}</Prefix><IsTruncated>${truncated}</IsTruncated>${content}</ListBucketResult>`;
  if (prefix === '') return answer(`<CommonPrefixes><Prefix>${FOLDER}</Prefix></CommonPrefixes>`);
  if (prefix !== FOLDER) return answer('');
  stats.pages++;
  const from = Number(query.get('continuation-token') ?? 0);
  const to = Math.min(from + size, count);
  let content = '';
  for (let index = from; index < to; index++) {
    content +=
      `<Contents><Key>${encodeURIComponent(keyOf(index))}</Key><LastModified>${MODIFIED.toISOString()}</LastModified>` +
      `<ETag>&quot;${etagOf(index)}&quot;</ETag><Size>${String(index).length}</Size><StorageClass>STANDARD</StorageClass></Contents>`;
  }
  return answer(
    content + (to < count ? `<NextContinuationToken>${to}</NextContinuationToken>` : ''),
    to < count,
  );
}

const server = createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  const key = decodeURIComponent(url.pathname.split('/').slice(2).join('/'));
  request.resume();
  const reply = (status, headers, body = '') => {
    response.writeHead(status, headers);
    response.end(body);
  };
  if (request.method === 'GET' && key === '') {
    stats.list++;
    const answer = () => reply(200, { 'content-type': 'application/xml' }, listing(url.searchParams));
    if (url.searchParams.get('prefix') === FOLDER && stats.pages + waiting.length >= allowed)
      waiting.push(answer);
    else answer();
    return;
  }
  const index = indexOf(key);
  if (request.method === 'HEAD') stats.head++;
  else if (request.method === 'GET') stats.get++;
  else stats.other++;
  if (index === undefined || !['HEAD', 'GET'].includes(request.method)) {
    reply(index === undefined ? 404 : 501, {});
    return;
  }
  const body = String(index);
  const headers = {
    etag: `"${etagOf(index)}"`,
    'last-modified': MODIFIED.toUTCString(),
    'content-length': body.length,
  };
  reply(200, headers, request.method === 'HEAD' ? '' : body);
});

function release() {
  allowed = Number.POSITIVE_INFINITY;
  const held = waiting;
  waiting = [];
  for (const answer of held) answer();
}

const commands = createInterface({ input: process.stdin });
commands.on('line', (line) => {
  const [command, value] = line.split(' ');
  if (command === 'hold') allowed = stats.pages + Number(value);
  else if (command === 'release') release();
  console.log(command === 'stats' ? JSON.stringify(stats) : 'done');
});
commands.on('close', () => process.exit(0));
server.listen(Number(portText), '127.0.0.1', () => console.log(`ready ${server.address().port}`));

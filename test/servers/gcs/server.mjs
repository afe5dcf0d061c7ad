#!/usr/bin/env node
/**
 * A fake of Google Cloud Storage's JSON API, on loopback and in memory, written from Google's reference
 * (https://cloud.google.com/storage/docs/json_api/v1): no faithful one can be installed. What it does not know it answers with 501.
 *
 * usage: server.mjs PORT [TOKEN]     PORT 0 takes a free one; with TOKEN every request must carry it as its bearer token
 * The first line on stdout is "ready PORT". It ends when stdin does.
 */
import { createServer } from 'node:http';
import { gunzipSync } from 'node:zlib';
import { Bucket } from './bucket.mjs';
import { selected } from './fields.mjs';
import { integer, parameters, Refusal } from './refusal.mjs';
import { Uploads } from './uploads.mjs';

const [portText = '0', token] = process.argv.slice(2);
const conditions = [
  'ifGenerationMatch',
  'ifGenerationNotMatch',
  'ifMetagenerationMatch',
  'ifMetagenerationNotMatch',
];
const sourceConditions = conditions.map((name) => name.replace('if', 'ifSource'));
/** @type {Map<string, Bucket>} */
const buckets = new Map();
const uploads = new Uploads();
let origin = '';

/** @param {string} name */
function bucketOf(name) {
  const bucket = buckets.get(name);
  if (bucket === undefined) throw new Refusal(404, 'The specified bucket does not exist.');
  return bucket;
}

/** @param {string} bucket @param {any} object */
function resource(bucket, { content, ...object }) {
  const path = `${encodeURIComponent(bucket)}/o/${encodeURIComponent(object.name)}`;
  return {
    kind: 'storage#object',
    id: `${bucket}/${object.name}/${object.generation}`,
    selfLink: `${origin}/storage/v1/b/${path}`,
    mediaLink: `${origin}/download/storage/v1/b/${path}?generation=${object.generation}&alt=media`,
    bucket,
    size: String(content.length),
    etag: Buffer.from(`${object.generation}/${object.metageneration}`).toString('base64'),
    timeStorageClassUpdated: object.timeCreated,
    timeFinalized: object.timeCreated,
    ...object,
  };
}

/** Content of an object, or of a range of it. */
function media(request, object) {
  const encoded = object.contentEncoding === 'gzip';
  const unpack = encoded && !/\bgzip\b/.test(request.headers['accept-encoding'] ?? '');
  const content = unpack ? gunzipSync(object.content) : object.content;
  const headers = {
    'Content-Type': object.contentType ?? 'application/octet-stream',
    ETag: Buffer.from(`${object.generation}/${object.metageneration}`).toString('base64'),
    'Last-Modified': new Date(object.updated).toUTCString(),
    'X-Goog-Generation': object.generation,
    'X-Goog-Metageneration': object.metageneration,
    'X-Goog-Hash': `crc32c=${object.crc32c}${object.md5Hash ? `,md5=${object.md5Hash}` : ''}`,
    'X-Goog-Storage-Class': object.storageClass,
    'X-Goog-Stored-Content-Encoding': object.contentEncoding ?? 'identity',
    'X-Goog-Stored-Content-Length': String(object.content.length),
    ...(encoded && !unpack && { 'Content-Encoding': 'gzip' }),
  };
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
  // What is unpacked on the way has no ranges.
  if (unpack || first === undefined || (first === '' && last === ''))
    return { status: 200, headers, body: content };
  const size = content.length;
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === '' || last === '' ? size - 1 : Math.min(Number(last), size - 1);
  if (start >= size || end < start) {
    throw new Refusal(416, 'Request range not satisfiable', { 'Content-Range': `bytes */${size}` });
  }
  const range = { 'Content-Range': `bytes ${start}-${end}/${size}` };
  return { status: 206, headers: { ...headers, ...range }, body: content.subarray(start, end + 1) };
}

const json = (answer, status = 200, headers = {}) => ({ status, headers, answer });
const body = ({ content }) => {
  try {
    return content.length === 0 ? {} : JSON.parse(content.toString());
  } catch {
    throw new Refusal(400, 'Parse Error');
  }
};

/** Method and path → what happens. Names in a path are percent-encoded, slashes too. */
const routes = [
  [
    'POST',
    /^\/storage\/v1\/b$/,
    (call) => {
      parameters(call.query, ['project', 'predefinedAcl', 'predefinedDefaultObjectAcl']);
      const settings = body(call);
      if (!/^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$/.test(settings.name ?? ''))
        throw new Refusal(400, 'Invalid bucket name');
      if (buckets.has(settings.name))
        throw new Refusal(
          409,
          'Your previous request to create the named bucket succeeded and you already own it.',
        );
      buckets.set(settings.name, new Bucket(settings.name, settings));
      return json(bucketOf(settings.name).resource());
    },
  ],
  [
    'GET',
    /^\/storage\/v1\/b$/,
    (call) => {
      parameters(call.query, ['project', 'prefix', 'maxResults']);
      const items = [...buckets.values()].map((bucket) => bucket.resource());
      return json({ kind: 'storage#buckets', items });
    },
  ],
  [
    'GET',
    /^\/storage\/v1\/b\/([^/]+)$/,
    (call, name) => {
      parameters(call.query, []);
      return json(bucketOf(name).resource());
    },
  ],
  [
    'DELETE',
    /^\/storage\/v1\/b\/([^/]+)$/,
    (call, name) => {
      parameters(call.query, []);
      if (!bucketOf(name).isEmpty) throw new Refusal(409, 'The bucket you tried to delete is not empty.');
      buckets.delete(name);
      return { status: 204, headers: {} };
    },
  ],
  [
    'GET',
    /^\/storage\/v1\/b\/([^/]+)\/o$/,
    (call, name) => {
      const known = [
        'prefix',
        'delimiter',
        'maxResults',
        'pageToken',
        'startOffset',
        'endOffset',
        'versions',
        'includeTrailingDelimiter',
      ];
      const { items, prefixes, nextPageToken } = bucketOf(name).list(parameters(call.query, known));
      return json({
        kind: 'storage#objects',
        ...(nextPageToken && { nextPageToken }),
        ...(prefixes.length > 0 && { prefixes }),
        ...(items.length > 0 && { items: items.map((each) => resource(name, each)) }),
      });
    },
  ],
  [
    'GET',
    /^(?:\/download)?\/storage\/v1\/b\/([^/]+)\/o\/([^/]+)$/,
    (call, bucket, name) => {
      const query = parameters(call.query, ['generation', ...conditions]);
      const object = bucketOf(bucket).find(name, query);
      Bucket.require(object, query, { reading: true });
      return query.alt === 'media' ? media(call.request, object) : json(resource(bucket, object));
    },
  ],
  ...['PATCH', 'PUT'].map((method) => [
    method,
    /^\/storage\/v1\/b\/([^/]+)\/o\/([^/]+)$/,
    (call, bucket, name) => {
      const query = parameters(call.query, ['generation', 'predefinedAcl', ...conditions]);
      return json(resource(bucket, bucketOf(bucket).update(name, body(call), query, method === 'PUT')));
    },
  ]),
  [
    'DELETE',
    /^\/storage\/v1\/b\/([^/]+)\/o\/([^/]+)$/,
    (call, bucket, name) => {
      bucketOf(bucket).remove(name, parameters(call.query, ['generation', ...conditions]));
      return { status: 204, headers: {} };
    },
  ],
  [
    'POST',
    /^\/storage\/v1\/b\/([^/]+)\/o\/([^/]+)\/(rewriteTo|copyTo)\/b\/([^/]+)\/o\/([^/]+)$/,
    (call, fromBucket, from, verb, toBucket, to) => {
      const known = ['sourceGeneration', 'destinationPredefinedAcl', ...conditions, ...sourceConditions];
      if (verb === 'rewriteTo') known.push('rewriteToken', 'maxBytesRewrittenPerCall');
      const query = parameters(call.query, known);
      const source = bucketOf(fromBucket).find(from, { generation: query.sourceGeneration });
      Bucket.require(source, query, { prefix: 'ifSource' });
      const given = body(call);
      // A request with metadata replaces all of it, one without takes the source's.
      const { content, componentCount, md5Hash, crc32c, ...kept } = source;
      const metadata = Object.keys(given).length > 0 ? given : kept;
      const object = bucketOf(toBucket).insert(to, content, metadata, query);
      const answer = resource(toBucket, object);
      if (verb === 'copyTo') return json(answer);
      const size = String(content.length);
      return json({
        kind: 'storage#rewriteResponse',
        totalBytesRewritten: size,
        objectSize: size,
        done: true,
        resource: answer,
      });
    },
  ],
  [
    'POST',
    /^\/storage\/v1\/b\/([^/]+)\/o\/([^/]+)\/compose$/,
    (call, bucketName, to) => {
      const query = parameters(call.query, [
        'ifGenerationMatch',
        'ifMetagenerationMatch',
        'destinationPredefinedAcl',
      ]);
      const { sourceObjects = [], destination = {} } = body(call);
      if (sourceObjects.length === 0 || sourceObjects.length > 32)
        throw new Refusal(400, 'compose takes 1 to 32 objects');
      const bucket = bucketOf(bucketName);
      const sources = sourceObjects.map(({ name, generation, objectPreconditions }) => {
        const source = bucket.find(name, { generation });
        Bucket.require(source, {
          ifGenerationMatch: integer(objectPreconditions?.ifGenerationMatch, 'ifGenerationMatch'),
        });
        return source;
      });
      const content = Buffer.concat(sources.map((each) => each.content));
      const componentCount = sources.reduce((sum, each) => sum + (each.componentCount ?? 1), 0);
      const contentType = destination.contentType ?? sources[0].contentType;
      return json(
        resource(
          bucketName,
          bucket.insert(to, content, { contentType, ...destination, componentCount }, query),
        ),
      );
    },
  ],
  [
    'POST',
    /^\/upload\/storage\/v1\/b\/([^/]+)\/o$/,
    (call, bucketName) => {
      const query = parameters(call.query, [
        'uploadType',
        'name',
        'contentEncoding',
        'predefinedAcl',
        ...conditions,
      ]);
      const bucket = bucketOf(bucketName);
      const { headers } = call.request;
      if (query.uploadType === 'resumable') {
        const id = uploads.open(bucket, query, headers, call.content);
        const path = `/upload/storage/v1/b/${encodeURIComponent(bucketName)}/o?uploadType=resumable&upload_id=${id}`;
        return { status: 200, headers: { Location: `${origin}${path}`, 'X-GUploader-UploadID': id } };
      }
      if (query.uploadType !== 'media' && query.uploadType !== 'multipart')
        throw new Refusal(400, 'Invalid uploadType');
      const upload = query.uploadType === 'media' ? uploads.simple : uploads.multipart;
      return json(resource(bucketName, upload.call(uploads, bucket, query, headers, call.content)));
    },
  ],
  [
    'PUT',
    /^\/upload\/storage\/v1\/b\/([^/]+)\/o$/,
    (call, bucketName) => {
      const query = parameters(call.query, ['uploadType', 'upload_id', 'name', ...conditions]);
      const { object, received } = uploads.proceed(query.upload_id ?? '', call.request.headers, call.content);
      if (object !== undefined) return json(resource(bucketName, object));
      return { status: 308, headers: received > 0 ? { Range: `bytes=0-${received - 1}` } : {} };
    },
  ],
  [
    'DELETE',
    /^\/upload\/storage\/v1\/b\/([^/]+)\/o$/,
    (call) => {
      uploads.cancel(
        parameters(call.query, ['uploadType', 'upload_id', 'name', ...conditions]).upload_id ?? '',
      );
      return { status: 499, headers: {} };
    },
  ],
];

function answer(request, content) {
  const url = new URL(request.url, origin);
  if (token !== undefined && request.headers.authorization !== `Bearer ${token}`)
    throw new Refusal(401, 'Invalid Credentials');
  for (const [method, pattern, handle] of routes) {
    const match = request.method === method ? pattern.exec(url.pathname) : null;
    if (match === null) continue;
    const names = match.slice(1).map(decodeURIComponent);
    const result = handle({ request, query: url.searchParams, content }, ...names);
    if (result.answer === undefined) return result;
    return {
      ...result,
      body: Buffer.from(JSON.stringify(selected(result.answer, url.searchParams.get('fields') ?? undefined))),
    };
  }
  throw new Refusal(501, `${request.method} ${url.pathname} is not implemented here`);
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    let result;
    try {
      result = answer(request, Buffer.concat(chunks));
    } catch (error) {
      const refusal =
        error instanceof Refusal ? error : new Refusal(error instanceof URIError ? 400 : 500, String(error));
      const text = refusal.code === 304 ? '' : JSON.stringify(refusal);
      result = { status: refusal.code, headers: refusal.headers, body: Buffer.from(text), answer: true };
    }
    const type = result.answer === undefined ? {} : { 'Content-Type': 'application/json; charset=UTF-8' };
    const length = result.status === 304 ? {} : { 'Content-Length': result.body?.length ?? 0 };
    response.writeHead(result.status, { ...result.headers, ...type, ...length });
    response.end(result.body);
  });
});
server.keepAliveTimeout = 60_000;
server.listen(Number(portText), '127.0.0.1', () => {
  const { port } = server.address();
  origin = `http://127.0.0.1:${port}`;
  process.stdout.write(`ready ${port}\n`);
});
process.stdin.on('end', () => process.exit(0)).resume();

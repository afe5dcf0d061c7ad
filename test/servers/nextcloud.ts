/**
 * What Nextcloud's documentation says of its WebDAV interface, as far as a mount uses it: files of one user, ETags and conditions, and chunked
 * upload version 2. https://docs.nextcloud.com/server/latest/developer_manual/client_apis/WebDAV/chunking.html
 * No such server can be installed here, so it is this page that the driver is checked against.
 */
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

interface Resource {
  /** undefined: a collection. */
  readonly content: Buffer | undefined;
  readonly etag: string;
  readonly modified: number;
  readonly property: string | undefined;
}

export interface Nextcloud {
  /** URL of the user's files. */
  readonly url: string;
  /** Method and path of every request so far. */
  readonly requests: string[];
  /** Files and upload folders, by path. */
  readonly resources: Map<string, Resource>;
  stop(): Promise<void>;
}

const FILES = '/remote.php/dav/files/user';
const UPLOADS = '/remote.php/dav/uploads/user';

export interface NextcloudOptions {
  /** Bytes; available to the user without a limit by default. */
  readonly quota?: Quota;
}

interface Quota {
  readonly available: number;
  readonly used: number;
}

/** What the documentation says of a user without a limit. */
const UNLIMITED: Quota = { available: -3, used: 0 };

export async function startNextcloud({ quota = UNLIMITED }: NextcloudOptions = {}): Promise<Nextcloud> {
  const resources = new Map<string, Resource>();
  const collection = (): Resource => make(undefined);
  resources.set(FILES, collection());
  resources.set(UPLOADS, collection());
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    collect(request)
      .then((body) => answer(resources, request, body, response, quota))
      .catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}${FILES}/`,
    requests,
    resources,
    stop: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}

const make = (content: Buffer | undefined, property?: string, modified?: string): Resource => ({
  content,
  etag: `"${randomUUID().replaceAll('-', '')}"`,
  modified: modified === undefined ? Date.now() : Number(modified) * 1000,
  property,
});

async function collect(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function answer(
  resources: Map<string, Resource>,
  request: IncomingMessage,
  body: Buffer,
  response: ServerResponse,
  quota: Quota,
): ServerResponse {
  const { headers, method } = request;
  const path = pathOf(request.url ?? '/');
  const found = resources.get(path);
  const reply = (status: number, more: Record<string, string> = {}, text: string | Buffer = '') =>
    response.writeHead(status, more).end(text);
  if (path === '/status.php') {
    return reply(
      200,
      {},
      JSON.stringify({ productname: 'Nextcloud', versionstring: '31.0.0', installed: true }),
    );
  }
  const parent = resources.get(path.slice(0, path.lastIndexOf('/')));
  switch (method) {
    case 'OPTIONS':
      return reply(200, { dav: '1, 3, extended-mkcol' });
    case 'PROPFIND': {
      if (found === undefined) return reply(404);
      const children =
        headers.depth === '1'
          ? [...resources.keys()].filter(
              (key) => key.startsWith(`${path}/`) && !key.slice(path.length + 1).includes('/'),
            )
          : [];
      const list = [path, ...children]
        .map((key) => describe(key, resources.get(key) as Resource, quota))
        .join('');
      return reply(
        207,
        { 'content-type': 'application/xml' },
        `<?xml version="1.0"?><d:multistatus xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">${list}</d:multistatus>`,
      );
    }
    case 'PROPPATCH': {
      if (found === undefined) return reply(404);
      const value = /<M:mirage-attributes>([\s\S]*?)<\/M:mirage-attributes>/.exec(body.toString())?.[1];
      resources.set(path, { ...found, property: value });
      return reply(
        207,
        {},
        `<d:multistatus xmlns:d="DAV:"><d:response><d:href>${path}</d:href><d:propstat><d:prop/><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response></d:multistatus>`,
      );
    }
    case 'MKCOL':
      if (found !== undefined) return reply(405);
      if (parent === undefined) return reply(409);
      if (path.startsWith(UPLOADS) && headers.destination === undefined) return reply(400);
      resources.set(path, make(undefined));
      return reply(201);
    case 'GET': {
      if (found?.content === undefined) return reply(404);
      const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? [];
      const etag = { etag: found.etag };
      if (from === undefined) return reply(200, etag, found.content);
      const { length } = found.content;
      if (Number(from) >= length) return reply(416);
      const end = Math.min(Number(to), length - 1);
      const range = { ...etag, 'content-range': `bytes ${from}-${end}/${length}` };
      return reply(206, range, found.content.subarray(Number(from), end + 1));
    }
    case 'PUT': {
      if (parent === undefined) return reply(409);
      if (!fulfilled(headers, found)) return reply(412);
      if (path.startsWith(UPLOADS) && !/\/\d{5}$/.test(path)) return reply(400);
      const put = make(body, found?.property, headers['x-oc-mtime'] as string | undefined);
      resources.set(path, put);
      return reply(found === undefined ? 201 : 204, { etag: put.etag, 'oc-etag': put.etag });
    }
    case 'DELETE':
      if (found === undefined) return reply(404);
      for (const key of [...resources.keys()])
        if (key === path || key.startsWith(`${path}/`)) resources.delete(key);
      return reply(204);
    case 'COPY':
    case 'MOVE': {
      const target = pathOf(new URL(String(headers.destination)).pathname);
      const before = resources.get(target);
      if (headers.overwrite === 'F' && before !== undefined) return reply(412);
      if (!fulfilled(headers, before, String(headers.destination))) return reply(412);
      if (path.startsWith(UPLOADS) && path.endsWith('/.file')) {
        const folder = path.slice(0, -'/.file'.length);
        const chunks = [...resources.keys()].filter((key) => key.startsWith(`${folder}/`)).sort();
        const whole = Buffer.concat(chunks.map((key) => resources.get(key)?.content ?? Buffer.alloc(0)));
        if (whole.length !== Number(headers['oc-total-length'])) return reply(400);
        for (const key of [folder, ...chunks]) resources.delete(key);
        const put = make(whole, before?.property, headers['x-oc-mtime'] as string | undefined);
        resources.set(target, put);
        return reply(before === undefined ? 201 : 204, { etag: put.etag, 'oc-etag': put.etag });
      }
      if (found === undefined) return reply(404);
      for (const key of [...resources.keys()]) {
        if (key !== path && !key.startsWith(`${path}/`)) continue;
        const each = resources.get(key) as Resource;
        resources.set(
          target + key.slice(path.length),
          method === 'MOVE' ? each : make(each.content, each.property),
        );
        if (method === 'MOVE') resources.delete(key);
      }
      return reply(before === undefined ? 201 : 204);
    }
    default:
      // Locks are an app of their own, not installed as a rule.
      return reply(501);
  }
}

const pathOf = (url: string): string => decodeURIComponent(url).replace(/\/$/, '');

/** If-Match, If-None-Match, and the ETags of an If header, for the resource itself or the one that is tagged. */
function fulfilled(headers: IncomingMessage['headers'], found: Resource | undefined, tag?: string): boolean {
  if (tag === undefined && headers['if-none-match'] === '*' && found?.content !== undefined) return false;
  if (tag === undefined && headers['if-match'] !== undefined && headers['if-match'] !== found?.etag)
    return false;
  const [, url, etag] = /^(?:<([^>]*)> )?\(\[([^\]]*)\]\)$/.exec(String(headers.if ?? '')) ?? [];
  if (etag === undefined || (tag !== undefined && url !== tag)) return true;
  return found?.etag === etag;
}

function describe(path: string, { content, etag, modified, property }: Resource, quota: Quota): string {
  const href = path.split('/').map(encodeURIComponent).join('/') + (content === undefined ? '/' : '');
  const own =
    content === undefined
      ? `<d:resourcetype><d:collection/></d:resourcetype><d:quota-available-bytes>${quota.available}</d:quota-available-bytes><d:quota-used-bytes>${quota.used}</d:quota-used-bytes>`
      : `<d:resourcetype/><d:getcontentlength>${content.length}</d:getcontentlength>`;
  const saved =
    property === undefined
      ? ''
      : `<x1:mirage-attributes xmlns:x1="urn:mirage:webdav">${property}</x1:mirage-attributes>`;
  return (
    `<d:response><d:href>${href}</d:href><d:propstat><d:prop>${own}${saved}` +
    `<d:getetag>${etag.replaceAll('"', '&quot;')}</d:getetag>` +
    `<d:getlastmodified>${new Date(modified).toUTCString()}</d:getlastmodified></d:prop>` +
    '<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>'
  );
}

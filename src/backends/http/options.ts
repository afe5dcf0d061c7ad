import { z } from 'zod';
import { duration } from '../../config/quantities.js';

const text = z.string().min(1);

const httpUrl = z
  .url({ protocol: /^https?$/, error: 'must be a URL that begins with http:// or https://' })
  .refine((url) => !hasCredentials(url), {
    message: 'credentials do not belong in the URL: use username and password',
  });

/** A file of a manifest. What is said of it here is not asked of the server. */
const manifestFile = z.strictObject({
  url: httpUrl,
  size: z.number().int().nonnegative().optional(),
  modified: z.iso.datetime({ offset: true }).optional(),
  etag: text.optional(),
});

/** A path below the mount: plain names between slashes. */
const manifestName = text.refine((name) => name.split('/').every((part) => !['', '.', '..'].includes(part)), {
  message: 'must be plain names between slashes',
});

/** Configuration keys of an HTTP mount: a tree with an index, or files by their URLs. */
export const httpOptions = z
  .strictObject({
    url: httpUrl
      .optional()
      .describe('a folder with an index (it ends with /), or one file: https://host/folder/'),
    files: z
      .record(manifestName, z.union([httpUrl, manifestFile]))
      .optional()
      .describe('path below the mount → URL, or url with size, modified and etag'),
    username: text.optional().describe('for basic or digest authentication'),
    password: z.string().optional(),
    authentication: z
      .enum(['basic', 'digest'])
      .optional()
      .describe('digest: never send the password itself; by default the server decides'),
    token: text.optional().describe('bearer token'),
    headers: z.record(z.string(), z.string()).optional().describe('headers of every request'),
    timeout: duration().default(10_000).describe('silence after which a request is given up: 10s'),
    webPages: z
      .boolean()
      .default(false)
      .describe('take a web page for the content of a file whose name does not end like one'),
  })
  .refine((o) => (o.url === undefined) !== (o.files === undefined), {
    message: 'exactly one of url and files says what is mounted',
    path: ['url'],
  })
  .refine((o) => o.username === undefined || o.token === undefined, {
    message: 'username and token exclude each other',
    path: ['token'],
  })
  .refine((o) => (o.username === undefined) === (o.password === undefined), {
    message: 'username and password belong together',
    path: ['password'],
  })
  .refine((o) => o.authentication === undefined || o.username !== undefined, {
    message: 'authentication is about username and password',
    path: ['authentication'],
  })
  .refine((o) => !carriesCredentials(o) || originsOf(o).size <= 1, {
    message: 'credentials and headers go to one server: give the files of another one a mount of their own',
    path: ['files'],
  });

export type HttpOptions = z.output<typeof httpOptions>;
export type ManifestFile = z.output<typeof manifestFile>;

function hasCredentials(url: string): boolean {
  if (!URL.canParse(url)) return false;
  const { username, password } = new URL(url);
  return username !== '' || password !== '';
}

function carriesCredentials(o: { username?: unknown; token?: unknown; headers?: unknown }): boolean {
  return o.username !== undefined || o.token !== undefined || o.headers !== undefined;
}

function originsOf(o: { files?: Record<string, string | { url: string }> | undefined }): Set<string> {
  const urls = Object.values(o.files ?? {}).map((file) => (typeof file === 'string' ? file : file.url));
  return new Set(urls.filter((url) => URL.canParse(url)).map((url) => new URL(url).origin));
}

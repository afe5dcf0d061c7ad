import { z } from 'zod';
import { duration } from '../../config/quantities.js';

const text = z.string().min(1);

/** Configuration keys of a WebDAV mount (RFC 4918); Nextcloud and ownCloud are found out by themselves. */
export const webdavOptions = z
  .strictObject({
    url: z
      .url({
        protocol: /^(https?|webdavs?)$/,
        error: 'must be a URL that begins with https://, http://, webdavs:// or webdav://',
      })
      .describe(
        'URL of the folder to mount; of Nextcloud: https://host/remote.php/dav/files/USER. webdavs is https',
      ),
    username: text.optional(),
    password: text.optional().describe('With Nextcloud and a second factor: an app password'),
    authentication: z
      .enum(['basic', 'digest'])
      .optional()
      .describe('digest: never send the password itself; by default the server decides'),
    token: text.optional().describe('Sent as a bearer token, in place of username and password'),
    headers: z
      .record(z.string().regex(/^[!#$%&'*+.^_`|~0-9a-z-]+$/i), z.string())
      .optional()
      .describe('Further headers of every request'),
    ca: text.optional().describe('PEM file of the authority that signed the certificate of the server'),
    connectTimeout: duration().default(10_000).describe('how long a connection may take to be made'),
  })
  .refine((o) => (o.username === undefined) === (o.password === undefined), {
    message: 'username and password belong together',
    path: ['password'],
  })
  .refine((o) => o.token === undefined || o.username === undefined, {
    message: 'a token takes the place of username and password',
    path: ['token'],
  })
  .refine((o) => !/^[a-z]+:\/\/[^/?#]*@/i.test(o.url), {
    message: 'credentials do not belong into the URL: write username and password',
    path: ['url'],
  });

export type WebdavOptions = z.output<typeof webdavOptions>;

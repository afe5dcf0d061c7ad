import { describe, expect, test } from '@jest/globals';
import { Addresses } from '../../src/backends/webdav/addresses.js';
import { decodeAttributes, encodeAttributes } from '../../src/backends/webdav/attributes.js';
import { type Resource, resources } from '../../src/backends/webdav/multistatus.js';
import { webdavOptions } from '../../src/backends/webdav/options.js';
import { infoOf } from '../../src/backends/webdav/properties.js';

async function parsed(text: string, piece = text.length): Promise<Resource[]> {
  const bytes = Buffer.from(text);
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += piece) yield bytes.subarray(at, at + piece);
  }
  const found: Resource[] = [];
  for await (const resource of resources(pieces())) found.push(resource);
  return found;
}

const entry = (href: string) =>
  `<D:response><D:href>${href}</D:href><D:propstat><D:prop><lp1:getcontentlength>5</lp1:getcontentlength>` +
  '<lp1:getetag>W/"5-1"</lp1:getetag></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>' +
  '<D:propstat><D:prop><g0:quota-used-bytes/></D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat></D:response>';
const listing = (...hrefs: string[]) =>
  `<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">${hrefs.map(entry).join('\n')}</D:multistatus>`;

describe('a listing', () => {
  test('is read in pieces of any size', async () => {
    const whole = await parsed(listing('/a', '/%C3%BC &amp; &#x26;'));
    expect(whole.map(({ href }) => href)).toEqual(['/a', '/%C3%BC & &']);
    expect(whole[0]?.failure).toBeUndefined();
    for (const piece of [1, 7, 100])
      expect(await parsed(listing('/a', '/%C3%BC &amp; &#x26;'), piece)).toEqual(whole);
  });

  test('that ends early is an error, wherever it ends', async () => {
    const text = listing('/a', '/b');
    for (const end of [30, 80, 300, text.indexOf('</D:response>') + 13, text.length - 5]) {
      await expect(parsed(text.slice(0, end))).rejects.toMatchObject({ errno: 'EIO' });
    }
  });

  test('without a resource is empty', async () => {
    expect(await parsed('<d:multistatus xmlns:d="DAV:"></d:multistatus>')).toEqual([]);
  });

  test('that declares entities is refused, and a page is no listing', async () => {
    const bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>';
    await expect(parsed(bomb + listing('/&b;').slice(21))).rejects.toMatchObject({ errno: 'EIO' });
    await expect(parsed('<html><body>Sign in</body></html>')).rejects.toMatchObject({ errno: 'EIO' });
  });

  test('with a resource that never ends is given up', async () => {
    const endless = `<D:multistatus xmlns:D="DAV:"><D:response><D:href>${'a'.repeat(2 ** 20)}`;
    await expect(parsed(endless, 65_536)).rejects.toMatchObject({ errno: 'EIO' });
  });
});

describe('names that a server lists', () => {
  const addresses = new Addresses('webdavs://host.example:8443/my%20files/');

  test('count one step below the folder, on the same host', () => {
    expect(addresses.origin).toBe('https://host.example:8443');
    expect(addresses.childOf('', '/my%20files/')).toBe('');
    expect(addresses.childOf('', '/my%20files/a%2Bb')).toBe('a+b');
    expect(addresses.childOf('d', '/my%20files/d/e/')).toBe('d/e');
    // Behind a proxy the server may think of itself as another port.
    expect(addresses.childOf('', 'http://host.example/my%20files/x')).toBe('x');
  });

  test.each([
    '/etc/passwd',
    '/my%20files/../etc',
    '/my%20files/%2e%2e',
    '/my%20files/d/../../x',
    '/my%20files/a/b',
    '/my%20files/a%2Fb',
    '/my%20files/a%00b',
    '/my%20files//x',
    '/my%20files/%ff',
    '//evil.example/my%20files/x',
    'https://evil.example/my%20files/x',
    'https://host.example@evil.example/my%20files/x',
    'javascript:alert(1)',
    'x',
    '',
  ])('do not count elsewhere: %s', (href) => {
    expect(addresses.childOf('', href)).toBeUndefined();
  });
});

describe('attributes', () => {
  const attributes = {
    mode: 0o120777,
    uid: 1,
    modified: { seconds: -5, nanoseconds: 7 },
    writer: 'n',
    linkGroup: 'g',
  };

  test('of the version they were saved for are all there', () => {
    expect(decodeAttributes(encodeAttributes(attributes, 'v1'), 'v1')).toEqual(attributes);
  });

  test('of an older version tell permissions and owner, not what it was', () => {
    expect(decodeAttributes(encodeAttributes(attributes, 'v1'), 'v2')).toEqual({ mode: 0o777, uid: 1 });
  });

  test('that somebody damaged count as none', () => {
    for (const text of ['', '{', '[]', '{"mode":"x"}', '{"modified":[1,1e10]}']) {
      expect(decodeAttributes(text, undefined)).toEqual({});
    }
  });
});

test('a weak ETag and the strong one it becomes are one version; a name that is only locked is no file', () => {
  const info = (getetag: string) =>
    infoOf('k', { href: '/k', failure: undefined, properties: { getcontentlength: '5', getetag } }, true)
      ?.validator;
  expect(info('W/"5-1"')).toBe(info('"5-1"'));
  expect(info('"5-1-gzip"')).toBe(info('"5-1"'));
  expect(info('"5-2"')).not.toBe(info('"5-1"'));
  expect(
    infoOf('k', { href: '/k', failure: undefined, properties: { resourcetype: '' } }, true),
  ).toBeUndefined();
});

test('credentials in the address, half of them, or two kinds are refused', () => {
  for (const options of [
    { url: 'https://user:secret@host/' },
    { url: 'https://host/', username: 'u' },
    { url: 'https://host/', username: 'u', password: 'p', token: 't' },
    { url: 'ftp://host/' },
  ]) {
    expect(webdavOptions.safeParse(options).success).toBe(false);
  }
});

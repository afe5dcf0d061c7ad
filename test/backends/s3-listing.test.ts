import { expect, test } from '@jest/globals';
import { parseListing } from '../../src/backends/s3/listing.js';

const answer = (content: string): string =>
  `<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>${content}</ListBucketResult>`;

const object = (key: string, more = ''): string =>
  `<Contents><Key>${key}</Key><LastModified>2026-11-21T14:18:01.979Z</LastModified><ETag>&quot;d41d&quot;</ETag><Size>17</Size>${more}</Contents>`;

test('objects and prefixes of a page, and where the next one begins', () => {
  const page = parseListing(
    answer(
      `<EncodingType>url</EncodingType><Prefix>a/</Prefix><IsTruncated>true</IsTruncated>${object('a%2Fx%20y')}${object('a/z', '<Owner><ID>1</ID></Owner>')}` +
        '<CommonPrefixes><Prefix>a%2Fb%2F</Prefix></CommonPrefixes><CommonPrefixes><Prefix>a/c/</Prefix><Prefix>a/d/</Prefix></CommonPrefixes>' +
        '<NextContinuationToken>1&amp;2</NextContinuationToken>',
    ),
  );
  const modified = { seconds: Date.UTC(2026, 10, 21, 14, 18, 1) / 1000, nanoseconds: 0 };
  expect(page).toEqual({
    objects: [
      { name: 'a/x y', size: 17, modified, validator: 'd41d' },
      { name: 'a/z', size: 17, modified, validator: 'd41d' },
    ],
    prefixes: ['a/b/', 'a/c/', 'a/d/'],
    unreadable: [],
    cursor: '1&2',
  });
});

test('a store that does not encode keys is taken by its word', () => {
  const page = parseListing(answer(object('100%25 &lt;&#x41;&#66;&gt; a+b')));
  expect(page.objects.map(({ name }) => name)).toEqual(['100%25 <AB> a+b']);
  expect(page.cursor).toBeUndefined();
});

test('a key that is not UTF-8 is told apart', () => {
  const page = parseListing(answer(`<EncodingType>url</EncodingType>${object('%FF')}${object('ok')}`));
  expect(page.objects.map(({ name }) => name)).toEqual(['ok']);
  expect(page.unreadable).toEqual(['%FF']);
});

test('a token after the last page is not followed', () => {
  const text = '<IsTruncated>false</IsTruncated><NextContinuationToken>x</NextContinuationToken>';
  expect(parseListing(answer(text)).cursor).toBeUndefined();
});

test.each(['', '<html></html>', answer(object('a')).slice(0, -30)])('%j is no listing', (text) => {
  expect(() => parseListing(text)).toThrow(expect.objectContaining({ errno: 'EIO' }));
});

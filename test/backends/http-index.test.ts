import { describe, expect, test } from '@jest/globals';
import { parseHtmlIndex, parseJsonIndex } from '../../src/backends/http/index-page.js';
import { traitsOf, unbelieved } from '../../src/backends/http/index-traits.js';
import { componentOf, segmentOf } from '../../src/backends/http/names.js';

const directory = new URL('http://host:81/files/here/');
const at = (text: string): number => Date.parse(text) / 1000;
const page = (html: string) => parseHtmlIndex(html, directory);

describe('a page of HTML', () => {
  test('of nginx', () => {
    expect(
      page(`<html><head><title>Index of /files/here/</title></head><body><h1>Index of /files/here/</h1><hr><pre><a href="../">../</a>
<a href="sub/">sub/</a>                                               21-Nov-2026 14:31                   -
<a href="a%20b%2541%3F%23.txt">a b%41?#.txt</a>                                       21-Nov-2026 14:31                   3
<a href="a-name-that-is-longer-than-what-is-shown-of-it-in-the-list">a-name-that-is-longer-than-what-is-shown-of-..&gt;</a> 02-Jan-2026 03:04          1000000000
</pre><hr></body></html>`),
    ).toEqual([
      { name: 'sub', kind: 'directory', size: undefined, modified: at('2026-11-21T14:31Z') },
      { name: 'a b%41?#.txt', kind: 'file', size: 3, modified: at('2026-11-21T14:31Z') },
      {
        name: 'a-name-that-is-longer-than-what-is-shown-of-it-in-the-list',
        kind: 'file',
        size: 1_000_000_000,
        modified: at('2026-01-02T03:04Z'),
      },
    ]);
  });

  test('of Apache: plain, in columns, in a table; rounded sizes are no sizes', () => {
    const plain =
      '<ul><li><a href="/files/"> Parent Directory</a></li>\n<li><a href="x.txt"> x.txt</a></li>\n</ul>';
    expect(page(plain)).toEqual([{ name: 'x.txt', kind: 'file', size: undefined, modified: undefined }]);
    const columns = `<pre><img src="/icons/blank.gif" alt="Icon "> <a href="?C=N;O=D">Name</a> <a href="?C=M;O=A">Last modified</a><hr>
<img src="/icons/back.gif" alt="[PARENTDIR]"> <a href="/files/">Parent Directory</a>                             -
<img src="/icons/folder.gif" alt="[DIR]"> <a href="sub/">sub/</a>          2026-11-21 14:31    -
<img src="/icons/text.gif" alt="[TXT]"> <a href="x.txt">x.txt</a>         2026-11-21 14:31  1.2K  a text of 2 lines
<img src="/icons/text.gif" alt="[TXT]"> <a href="y.txt">y.txt</a>         2026-11-21 14:31  512
<hr></pre>`;
    const rows = `<table><tr><th><a href="?C=N;O=D">Name</a></th></tr>
<tr><td valign="top"><img alt="[DIR]"></td><td><a href="sub/">sub/</a></td><td align="right">2026-11-21 14:31  </td><td align="right">  - </td></tr>
<tr><td valign="top"><img alt="[TXT]"></td><td><a href="x.txt">x.txt</a></td><td align="right">2026-11-21 14:31  </td><td align="right">1.2K</td></tr>
<tr><td valign="top"><img alt="[TXT]"></td><td><a href="y.txt">y.txt</a></td><td align="right">2026-11-21 14:31  </td><td align="right">512 </td></tr></table>`;
    const modified = at('2026-11-21T14:31Z');
    for (const html of [columns, rows]) {
      expect(page(html)).toEqual([
        { name: 'sub', kind: 'directory', size: undefined, modified },
        { name: 'x.txt', kind: 'file', size: undefined, modified },
        { name: 'y.txt', kind: 'file', size: 512, modified },
      ]);
    }
  });

  test('of lighttpd, with seconds', () => {
    const row =
      '<tr><td class="n"><a href="x">x</a></td><td class="m">2026-Nov-21 14:31:07</td><td class="s">0.1K</td></tr>';
    expect(page(row)).toEqual([
      { name: 'x', kind: 'file', size: undefined, modified: at('2026-11-21T14:31:07Z') },
    ]);
  });

  test.each([
    '../',
    '..',
    '.',
    './',
    '../../etc/passwd',
    'sub/../../x',
    'sub/../x',
    '%2e%2e/',
    '%2e%2e%2fx',
    'a%2fb',
    'a%2Fb',
    'a%00b',
    '/etc/passwd',
    '/files/',
    '//evil.example/files/here/x',
    'http://evil.example/files/here/x',
    'http://host/files/here/x',
    'https://host:81/files/here/x',
    'ftp://host/files/here/x',
    'javascript:alert(1)',
    'data:text/html,x',
    'mailto:a@b',
    'file:///etc/passwd',
    '?C=N;O=D',
    'x?download=1',
    'x#part',
    '#top',
    '',
    'sub/deeper',
    'a\\b',
    '..\\x',
    'x//',
  ])('a link to %p is no entry', (href) => {
    expect(page(`<a href="${href}">name</a> 21-Nov-2026 14:31 3`)).toEqual([]);
  });

  test('links in scripts, styles and comments are no entries, unclosed ones neither', () => {
    expect(
      page(`<!-- <a href="a">a</a> --><script>document.write('<a href="b">b</a>')</script><style><a href="c"></style>
<a href="good">good</a><abbr href="d">d</abbr><a name="e">e</a><a
 class=x href=also>also</a><SCRIPT>'<a href="f">'</SCRIPT><!-- <a href="g">g</a>`),
    ).toMatchObject([{ name: 'good' }, { name: 'also' }]);
    expect(page('<a href="x')).toEqual([]);
  });

  test('entities, absolute links to the same folder, names that are not UTF-8, names that come twice', () => {
    expect(
      page(`<a href="a&amp;b&#39;&#x41;">1</a><a href="/files/here/abs">2</a><a href="http://host:81/files/here/full/">3</a>
<a href="./dot">4</a><a href="%ff%fe">5</a><a href="abs">6</a>`),
    ).toMatchObject([
      { name: "a&b'A" },
      { name: 'abs' },
      { name: 'full', kind: 'directory' },
      { name: 'dot' },
      { name: '%mirage-bytes-fffe' },
    ]);
  });

  test('a page of many megabytes that was made to be slow is read in time', () => {
    const many = Array.from({ length: 50_000 }, (_, index) => `<a href="${index}">`);
    expect(page(many.join('')).length).toBe(many.length);
    expect(page('<a '.repeat(1_000_000))).toEqual([]);
    expect(page('<'.repeat(1_000_000))).toEqual([]);
    expect(page(`<a href="x">${' '.repeat(1_000_000)}</a>`).length).toBe(1);
    expect(page('<!--'.repeat(1_000_000))).toEqual([]);
  });
});

describe('a page of JSON', () => {
  test('of nginx and of Caddy', () => {
    const nginx = `[{ "name":"sub", "type":"directory", "mtime":"Sat, 21 Nov 2026 14:31:03 GMT" },
{ "name":"x", "type":"file", "mtime":"Sat, 21 Nov 2026 14:31:03 GMT", "size":3 }]`;
    const caddy = `[{"name":"sub/","size":4096,"url":"./sub/","mod_time":"2026-11-21T14:31:03.123Z","mode":1,"is_dir":true,"is_symlink":false},
{"name":"x","size":3,"url":"./x","mod_time":"2026-11-21T14:31:03Z","mode":420,"is_dir":false,"is_symlink":false}]`;
    for (const text of [nginx, caddy]) {
      expect(parseJsonIndex(text)).toEqual([
        { name: 'sub', kind: 'directory', size: undefined, modified: at('2026-11-21T14:31:03Z') },
        { name: 'x', kind: 'file', size: 3, modified: at('2026-11-21T14:31:03Z') },
      ]);
    }
  });

  test('names that are none are left out; what is no index is none', () => {
    const hostile = ['..', '.', '', 'a/b', '/etc', 'a\0b', '\ud800'].map((name) => ({
      name,
      type: 'file',
      size: 1,
    }));
    expect(parseJsonIndex(JSON.stringify([...hostile, { name: 'good', type: 'file' }]))).toEqual([
      { name: 'good', kind: 'file', size: undefined, modified: undefined },
    ]);
    for (const text of ['{', '{}', '[1]', '[{"name":1}]', '[{"name":"x","type":"file","size":-1}]']) {
      expect(parseJsonIndex(text)).toBeUndefined();
    }
  });
});

describe('an index is believed as far as it was right about one file', () => {
  const modified = at('2026-11-21T14:31:07Z');
  const truth = {
    size: 1000,
    modified: { seconds: modified, nanoseconds: 0 },
    validator: '"abc"',
    codings: [],
  };
  const entry = { name: 'x', kind: 'file', size: 1000, modified } as const;

  test('sizes, time zone and grain of times', () => {
    expect(traitsOf(entry, truth)).toMatchObject({ exactSizes: true, zone: 0, grain: 1 });
    const minute = modified - (modified % 60);
    expect(traitsOf({ ...entry, modified: minute }, truth)).toMatchObject({ zone: 0, grain: 60 });
    expect(traitsOf({ ...entry, modified: minute + 7200 }, truth)).toMatchObject({ zone: -7200, grain: 60 });
    expect(traitsOf({ ...entry, modified: minute + 60 }, truth)).toBe(unbelieved);
    expect(traitsOf({ ...entry, size: 1 }, truth)).toBe(unbelieved);
  });

  test('versions that are made of time and size', () => {
    const nginx = { ...truth, validator: `"${modified.toString(16)}-3e8"` };
    expect(traitsOf(entry, nginx).versionOf?.(modified, 16)).toBe(`"${modified.toString(16)}-10"`);
    const without = { ...truth, validator: `@${modified}+1000` };
    expect(traitsOf(entry, without).versionOf?.(5, 6)).toBe('@5+6');
    expect(traitsOf(entry, truth).versionOf).toBeUndefined();
  });
});

test('names and segments are one to one', () => {
  for (const name of [
    'a b',
    'percent%41',
    '%2F',
    `&<>"'`,
    'q?m#h',
    'ümläut',
    '日本語',
    '~:@!$&()*+,;=',
    '%mirage-bytes-ff',
  ]) {
    expect(componentOf(segmentOf(name))).toBe(name);
    expect(new URL(`http://h/${segmentOf(name)}/x`).pathname.split('/').length).toBe(3);
  }
});

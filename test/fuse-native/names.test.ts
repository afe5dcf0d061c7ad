import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { components, isMangled, splitPath, toBytes, toText } from '../../src/fuse/fuse-native/names.js';

describe('names between fuse-native and the file system', () => {
  test('text becomes its UTF-8 bytes and comes back', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const bytes = toBytes(text);
        expect(Buffer.from(bytes, 'latin1').toString('utf8')).toBe(text);
        expect(toText(bytes)).toBe(text);
      }),
    );
  });

  test('bytes that are not UTF-8 have no text', () => {
    expect(toText('\xff')).toBeUndefined();
    expect(toText('caf\xe9')).toBeUndefined();
    expect(toText('\xef\xbb\xbfmark')).toBe('\ufeffmark');
  });

  test('a replacement character may stand for lost bytes', () => {
    expect(isMangled('caf\ufffd')).toBe(true);
    expect(isMangled('café')).toBe(false);
  });

  test('paths come apart', () => {
    expect(components('/')).toEqual([]);
    expect(components('/a/é')).toEqual(['a', '\xc3\xa9']);
    expect(splitPath('/a/b/c')).toEqual({ folder: '/a/b', name: 'c' });
    expect(splitPath('/c')).toEqual({ folder: '', name: 'c' });
  });
});

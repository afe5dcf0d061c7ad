import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';
import { exitCodes } from '../../src/cli/exit-codes.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** `key=value` lines of a unit, by section. */
function unit(): Map<string, string[]> {
  const sections = new Map<string, string[]>();
  let section = '';
  for (const line of readFileSync(join(root, 'systemd/mirage@.service'), 'utf8').split('\n')) {
    section = /^\[(\w+)\]$/.exec(line)?.[1] ?? section;
    if (/^\w+=/.test(line)) sections.set(section, [...(sections.get(section) ?? []), line]);
  }
  return sections;
}

test('systemd accepts the unit', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mirage-unit-'));
  try {
    const instance = join(folder, 'mirage@data.service');
    copyFileSync(join(root, 'systemd/mirage@.service'), instance);
    // It prints what it does not like, and fails.
    expect(
      execFileSync('systemd-analyze', ['verify', '--man=no', instance], {
        encoding: 'utf8',
        timeout: 60_000,
      }),
    ).toBe('');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('the service reports when it is mounted, drains when stopped, and hides the mount from nobody', () => {
  const service = unit().get('Service')!;
  expect(service).toContain('Type=notify');
  expect(service).toContain('KillMode=mixed');
  expect(service.find((line) => line.startsWith('ExecStart='))).toMatch(
    /mirage mount --config \S+ --foreground$/,
  );
  const hiding =
    /^(Private(Tmp|Mounts|Users)|Protect(System|Home)|ReadOnlyPaths|ReadWritePaths|InaccessiblePaths|BindPaths|TemporaryFileSystem|RootDirectory|RootImage|DynamicUser|MountFlags)=/;
  expect(service.filter((line) => hiding.test(line))).toEqual([]);
});

test('the service is not started again when that cannot help', () => {
  const { usage, notFound, denied } = exitCodes;
  expect(unit().get('Service')).toContain(`RestartPreventExitStatus=${usage} ${notFound} ${denied}`);
});

/** What Apple's property list DTD allows of a dictionary, as plain data. */
function readPropertyList(text: string): unknown {
  const tokens = [
    ...text
      .replaceAll(/<!--[\s\S]*?-->|<\?[\s\S]*?\?>|<!DOCTYPE[^>]*>/g, '')
      .matchAll(/<(\/?\w+)[^>]*?(\/)?>|([^<]+)/g),
  ]
    .map(([, tag, empty, content]) => ({ tag: empty ? `${tag}/` : tag, content: content?.trim() }))
    .filter(({ tag, content }) => tag !== undefined || content !== '');
  let at = 0;
  const expectTag = (tag: string): void => {
    if (tokens[at++]?.tag !== tag) throw new Error(`<${tag}> expected at token ${at}`);
  };
  const text_ = (tag: string): string => {
    expectTag(tag);
    const content = tokens[at]?.content === undefined ? '' : tokens[at++]!.content!;
    expectTag(`/${tag}`);
    return content;
  };
  const value = (): unknown => {
    const { tag } = tokens[at]!;
    if (tag === 'string') return text_('string');
    if (tag === 'integer') return Number(text_('integer'));
    if (tag === 'true/' || tag === 'false/') {
      at++;
      return tag === 'true/';
    }
    if (tag === 'array') {
      const items: unknown[] = [];
      for (expectTag('array'); tokens[at]?.tag !== '/array'; ) items.push(value());
      expectTag('/array');
      return items;
    }
    const entries: [string, unknown][] = [];
    for (expectTag('dict'); tokens[at]?.tag !== '/dict'; ) entries.push([text_('key'), value()]);
    expectTag('/dict');
    return Object.fromEntries(entries);
  };
  expectTag('plist');
  const result = value();
  expectTag('/plist');
  return result;
}

test('launchd: starts at login, again after a failure but not after an unmount, and gets time to drain', () => {
  const list = readPropertyList(readFileSync(join(root, 'launchd/io.mirage.mount.plist'), 'utf8'));
  expect(list).toEqual({
    Label: 'io.mirage.mount',
    ProgramArguments: [
      '/usr/bin/env',
      'mirage',
      'mount',
      '--config',
      '/Users/NAME/.mirage/config.yaml',
      '--foreground',
    ],
    EnvironmentVariables: { PATH: '/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin' },
    RunAtLoad: true,
    KeepAlive: { SuccessfulExit: false },
    ThrottleInterval: 10,
    ExitTimeOut: 120,
    StandardErrorPath: '/Users/NAME/Library/Logs/mirage.log',
    StandardOutPath: '/Users/NAME/Library/Logs/mirage.log',
  });
});

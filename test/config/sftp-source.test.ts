import { expect, test } from '@jest/globals';
import { backendTypes } from '../../src/backends/registry.js';
import { configurationOfSource } from '../../src/config/load.js';
import { ConfigurationError } from '../../src/config/problem.js';

const load = (source: string, options: Record<string, string> = {}) => {
  const environment = { HOME: '/home/somebody', SECRET: 'a password' };
  const given = { types: backendTypes, environment, mountpoint: '/m', options };
  return configurationOfSource(source, given).mounts[0]!.options;
};

test.each([
  ['sftp://host', { host: 'host' }],
  ['sftp://user@host:2222/srv/files', { host: 'host', user: 'user', port: 2222, path: '/srv/files' }],
  ['sftp://host/~/files', { host: 'host', path: '~/files' }],
  ['sftp://host/', { host: 'host', path: '/' }],
  ['sftp://[::1]:22/a%20b', { host: '[::1]', port: 22, path: '/a b' }],
])('%s is a source', (source, options) => {
  expect(load(source)).toMatchObject(options);
});

test('keys of -o go with it, a password from the environment only', () => {
  const options = { hostKey: 'accept-new', timeout: '5s', connections: '4', password: '${SECRET}' };
  expect(load('sftp://host', options)).toMatchObject({
    hostKey: 'accept-new',
    timeout: 5000,
    connections: 4,
    password: 'a password',
  });
  expect(() => load('sftp://host', { password: 'a password' })).toThrow(ConfigurationError);
});

test.each([
  'sftp://',
  'sftp://user:password@host/',
  'sftp://-oProxyCommand=x/',
  'sftp://host/%zz',
  'sftp://-l@host/',
])('%s is none', (source) => {
  expect(() => load(source)).toThrow(ConfigurationError);
});

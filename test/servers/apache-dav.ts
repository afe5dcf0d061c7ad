import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type DavServer, type DavServerOptions, startDavServer } from './dav-server.js';

export interface ApacheOptions extends DavServerOptions {
  /** Further lines for the served folder. */
  readonly directives?: readonly string[];
}

const MODULES = '/usr/lib/apache2/modules';
const NEEDED = ['mpm_event', 'authz_core', 'authn_core', 'authn_file', 'auth_basic', 'dav', 'dav_fs'];
const USEFUL = [
  'auth_digest',
  'authz_user',
  'authz_host',
  'autoindex',
  'dir',
  'mime',
  'alias',
  'unixd',
  'headers',
  'filter',
  'deflate',
  'setenvif',
];

/** Apache mod_dav: class 2, conditions, dead properties. */
export function startApacheDav(options: ApacheOptions = {}): Promise<DavServer> {
  return startDavServer(
    {
      command: 'apache2',
      packages: 'apache2',
      start: (file) => ['-f', file],
      configuration: (directory, port) =>
        [
          `ServerRoot ${directory}`,
          `PidFile ${directory}/pid`,
          `Listen 127.0.0.1:${port}`,
          'ServerName localhost',
          `ErrorLog ${directory}/log`,
          `DefaultRuntimeDir ${directory}/tmp`,
          ...[...NEEDED, ...USEFUL]
            .map((name) => [name, join(MODULES, `mod_${name}.so`)] as const)
            .filter(([, file]) => existsSync(file))
            .map(([name, file]) => `LoadModule ${name}_module ${file}`),
          ...(process.getuid?.() === 0 ? ['User www-data', 'Group www-data'] : []),
          'TypesConfig /dev/null',
          `DavLockDB ${directory}/locks`,
          'LimitXMLRequestBody 0',
          'AllowEncodedSlashes NoDecode',
          `DocumentRoot ${directory}/data`,
          `<Directory ${directory}/data>`,
          'Dav On',
          ...(options.directives?.includes('Require valid-user') ? [] : ['Require all granted']),
          ...(options.directives ?? []),
          '</Directory>',
          '',
        ].join('\n'),
    },
    options,
  );
}

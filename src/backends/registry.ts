import { azureOptions } from './azure/options.js';
import type { BackendType } from './backend-type.js';
import type { LentConnection, NearModule } from './file-server.js';
import { gcsOptions } from './gcs/options.js';
import { httpOptions } from './http/options.js';
import { layered } from './layers/stack.js';
import { localOptions } from './local/options.js';
import { ramOptions } from './ram/options.js';
import { s3Options } from './s3/options.js';
import { sftpOptions } from './sftp/options.js';
import { webdavOptions } from './webdav/options.js';

/** The only place that names concrete backends: type of a mount → what its options are and where its code is. */
export const backendTypes: Readonly<Record<string, BackendType>> = {
  ram: {
    options: ramOptions,
    placement: 'inline',
    writesThrough: true,
    load: () => import('./ram/backend.js'),
  },
  local: {
    options: localOptions,
    placement: 'inline',
    writesThrough: true,
    load: () => import('./local/backend.js'),
  },
  s3: {
    options: s3Options,
    placement: 'remote',
    load: async () => layered(await import('./s3/open.js')),
  },
  gcs: {
    options: gcsOptions,
    placement: 'remote',
    load: async () => layered(await import('./gcs/open.js')),
  },
  http: {
    options: httpOptions,
    placement: 'remote',
    load: async () => layered(await import('./http/open.js')),
  },
  sftp: {
    options: sftpOptions,
    placement: 'remote',
    writesThrough: true,
    load: async () => layered(await import('./sftp/open.js')),
  },
  webdav: {
    options: webdavOptions,
    placement: 'remote',
    load: async () => layered(await import('./webdav/open.js')),
  },
  azure: {
    options: azureOptions,
    placement: 'remote',
    load: async () => layered(await import('./azure/open.js')),
  },
};

/** What speaks on connections that were lent to the file-system thread, by protocol. */
export const nearModules: Readonly<Record<LentConnection['protocol'], () => Promise<NearModule>>> = {
  sftp: () => import('./sftp/near-files.js'),
};

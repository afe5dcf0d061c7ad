import { type DavServer, type DavServerOptions, startDavServer } from './dav-server.js';

export interface NginxOptions extends DavServerOptions {
  /** Without: the server keeps no two writers apart. */
  readonly locks?: boolean;
}

/** nginx with its dav-ext module: locks, but no conditions, no ETags in listings and no dead properties. */
export function startNginxDav({ locks = true, ...options }: NginxOptions = {}): Promise<DavServer> {
  return startDavServer(
    {
      command: 'nginx',
      packages: 'nginx-extras',
      start: (file) => ['-c', file],
      configuration: (directory, port) => `
load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
worker_processes 2;
pid ${directory}/pid;
error_log ${directory}/log;
${process.getuid?.() === 0 ? 'user www-data;' : ''}
events { worker_connections 512; }
http {
  access_log off;
  sendfile on;
  tcp_nodelay on;
  client_max_body_size 0;
  default_type application/octet-stream;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${directory}/tmp/${name};`).join('\n  ')}
  dav_ext_lock_zone zone=locks:1m timeout=120s;
  server {
    listen 127.0.0.1:${port};
    root ${directory}/data;
    location / {
      dav_methods PUT DELETE MKCOL COPY MOVE;
      dav_ext_methods PROPFIND OPTIONS${locks ? ' LOCK UNLOCK' : ''};
      ${locks ? 'dav_ext_lock zone=locks;' : ''}
    }
  }
}
`,
    },
    options,
  );
}

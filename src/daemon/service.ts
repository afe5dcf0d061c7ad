import { fuseTransport } from '../native/fuse-transport.js';

/** Tells systemd (Type=notify) how the service is; nothing where no service manager listens. sd_notify(3). */
export function notifyService(state: string): void {
  const socket = process.env.NOTIFY_SOCKET;
  if (socket) fuseTransport().serviceNotify(socket, state);
}

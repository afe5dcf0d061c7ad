import type { MountIndex, StorePort } from './store-port.js';

/** A store port of which single mounts are answered by another one. */
export class RoutedStores {
  readonly port: StorePort;
  readonly #routes = new Map<MountIndex, StorePort>();

  constructor(otherwise: StorePort) {
    this.port = new Proxy(otherwise, {
      get: (target, name) => {
        const method: unknown = Reflect.get(target, name, target);
        if (typeof method !== 'function') return method;
        return (mount: MountIndex, ...parameters: readonly unknown[]): unknown => {
          const route = this.#routes.get(mount);
          if (route === undefined) return Reflect.apply(method, target, [mount, ...parameters]);
          const other = Reflect.get(route, name, route) as typeof method;
          return Reflect.apply(other, route, [mount, ...parameters]);
        };
      },
    });
  }

  route(mount: MountIndex, port: StorePort): void {
    this.#routes.set(mount, port);
  }
}

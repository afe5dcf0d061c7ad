import type { Clock } from '../../clock/clock.js';
import type { Backend, ByteRange } from '../contract.js';
import { intercept, plain } from './intercept.js';

/**
 * Figures of one backend since it was opened: `<operation>`, `<operation>Errors`, `<operation>Milliseconds` (all calls added up),
 * `bytesRead`, `bytesWritten` (sent, repeated parts included).
 */
export class Metrics {
  readonly #counters: Record<string, number> = { bytesRead: 0, bytesWritten: 0 };

  add(name: string, amount: number): void {
    this.#counters[name] = (this.#counters[name] ?? 0) + amount;
  }

  snapshot(): Record<string, number> {
    return { ...this.#counters };
  }
}

/** Counts calls, failures, time and bytes. */
export function metrics(inner: Backend, counters: Metrics, clock: Clock): Backend {
  const counted: Backend = {
    ...plain(inner),
    read: (key, range, sink, context, match) =>
      inner.read(
        key,
        range,
        {
          begin: (info) => sink.begin?.(info),
          write(chunk) {
            counters.add('bytesRead', chunk.length);
            return sink.write(chunk);
          },
          ...(sink.writeNow && {
            writeNow(chunk) {
              counters.add('bytesRead', chunk.length);
              sink.writeNow?.(chunk);
            },
          }),
        },
        context,
        match,
      ),
    write: (key, source, options, context) => {
      const countedSource = {
        size: source.size,
        async *read(range: ByteRange) {
          for await (const chunk of source.read(range)) {
            counters.add('bytesWritten', chunk.length);
            yield chunk;
          }
        },
      };
      return inner.write(key, countedSource, options, context);
    },
  };
  return intercept(counted, async (operation, _key, context, proceed) => {
    const started = clock.monotonic();
    try {
      return await proceed(context);
    } catch (error) {
      counters.add(`${operation}Errors`, 1);
      throw error;
    } finally {
      counters.add(operation, 1);
      counters.add(`${operation}Milliseconds`, clock.monotonic() - started);
    }
  });
}

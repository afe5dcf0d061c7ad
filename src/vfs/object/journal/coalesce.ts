/**
 * What a new intent makes of one that was not begun: a file that is made and removed before it was sent costs nothing, the last of
 * many writes is the only one sent, a rename gives bytes that are still here their new key at once.
 */
import type { Precondition } from '../../../backends/contract.js';
import { type Intent, type IntentOf, type PutIntent, provisional } from './intent.js';

/** The newest intents of a key, and of the source of a rename, where they can still be taken back; `busy`: there is one that cannot. */
export interface Neighbours {
  readonly last: Intent | 'busy' | undefined;
  readonly source: Intent | 'busy' | undefined;
  /** Something is still to be done below the key. */
  readonly below: boolean;
}

export interface Coalesced {
  /** Which neighbours are taken back. */
  readonly drops: readonly ('last' | 'source')[];
  /** What is to be done instead of all of them. */
  readonly intents: readonly Intent[];
}

export function coalesce(intent: Intent, { last, source, below }: Neighbours): Coalesced {
  const alone: Coalesced = { drops: [], intents: [intent] };
  if (intent.kind === 'copy' && intent.removes) return rename(intent, last, source) ?? alone;
  if (last === undefined || last === 'busy') return alone;
  const instead = (...intents: readonly Intent[]): Coalesced => ({ drops: ['last'], intents });
  switch (intent.kind) {
    case 'put':
      if (last.kind === 'put' && follows(intent.precondition, last)) {
        return instead({ ...intent, precondition: last.precondition });
      }
      if (last.kind === 'remove' && intent.precondition.kind === 'absent') {
        return instead({ ...intent, precondition: last.precondition });
      }
      return alone;
    case 'remove':
      if (last.kind === 'put' && follows(intent.precondition, last)) {
        if (last.precondition.kind === 'absent') return instead();
        return instead({ ...intent, precondition: last.precondition });
      }
      return last.kind === 'setAttributes' && last.of === 'file' ? instead(intent) : alone;
    case 'setAttributes':
      return attributes(intent, last) ?? alone;
    case 'removeDirectory':
      return last.kind === 'makeDirectory' && !below ? instead() : alone;
    default:
      return alone;
  }
}

/** The precondition speaks of the version that `before` makes. */
const follows = (precondition: Precondition, before: PutIntent): boolean =>
  precondition.kind === 'any' ||
  (precondition.kind === 'match' && precondition.validator === provisional(before.nonce));

function attributes(intent: IntentOf<'setAttributes'>, last: Intent): Coalesced | undefined {
  const instead = (changed: Intent): Coalesced => ({ drops: ['last'], intents: [changed] });
  switch (last.kind) {
    case 'put':
    case 'copy':
      if (intent.of !== 'file') return undefined;
      return instead({ ...last, attributes: { ...intent.attributes, writer: last.nonce } });
    case 'makeDirectory':
      return intent.of === 'directory' ? instead({ ...last, attributes: intent.attributes }) : undefined;
    case 'setAttributes':
      if (intent.of !== last.of) return undefined;
      return instead({ ...intent, precondition: last.precondition });
    default:
      return undefined;
  }
}

/** Bytes that were not sent yet go to the new key at once; the old one is removed only where the store has something there. */
function rename(
  intent: IntentOf<'copy'>,
  last: Neighbours['last'],
  source: Neighbours['source'],
): Coalesced | undefined {
  if (source === undefined || source === 'busy' || source.kind !== 'put' || last === 'busy') return undefined;
  let { precondition } = intent;
  if (last !== undefined) {
    if (last.kind === 'put' && follows(precondition, last)) precondition = last.precondition;
    else if (last.kind === 'remove' && precondition.kind === 'absent') precondition = last.precondition;
    else return undefined;
  }
  const { key, from, nonce, at } = intent;
  const put: PutIntent = {
    ...source,
    key,
    precondition,
    attributes: { ...intent.attributes, writer: nonce },
    nonce,
    at,
  };
  const removed: Intent[] =
    source.precondition.kind === 'absent'
      ? []
      : [{ kind: 'remove', key: from, precondition: source.precondition, at }];
  return { drops: last === undefined ? ['source'] : ['last', 'source'], intents: [put, ...removed] };
}

import { askDrain } from '../daemon/control-client.js';
import { exitCodes } from './exit-codes.js';
import { daemonAt } from './mounted.js';
import type { Output } from './output.js';

/** The barrier for a whole mount: what programs have written and changed before is at its stores afterwards. */
export async function drain(folder: string, output: Output): Promise<number> {
  const daemon = await daemonAt(folder);
  let announced = '';
  const left = await askDrain(daemon.socket, (pending) => {
    const text = pending.length > 0 ? `waiting for ${pending.length} changes` : '';
    if (text !== '' && text !== announced) output.note(text);
    announced = text;
  });
  if (left.length === 0) {
    output.line('Everything is on its store');
    return exitCodes.ok;
  }
  output.problem({
    what: `${left.length} changes are not on their store yet`,
    why: left.slice(0, 5).join(', ') + (left.length > 5 ? `, and ${left.length - 5} more` : ''),
    remedy: 'they are tried again by themselves; .mirage/last-error says what is in the way',
  });
  return exitCodes.partial;
}

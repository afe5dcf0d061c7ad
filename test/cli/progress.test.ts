/** How far a long command is: a bar on a terminal, one plain line in a pipe. */
import { expect, jest, test } from '@jest/globals';
import { Progress } from '../../src/cli/progress.js';

const MIB = 2 ** 20;
const ERASED = '\r\u001B[K';

function terminalOf(isTTY: boolean, columns = 120) {
  const pictures: string[] = [];
  const lines: string[] = [];
  const terminal = { isTTY, columns, write: (text: string) => void pictures.push(text) };
  return { pictures, lines, terminal, output: { line: (text = '') => void lines.push(text) } };
}

test('a terminal gets a bar that grows, and the result as a line', () => {
  jest.useFakeTimers();
  const { pictures, lines, terminal, output } = terminalOf(true);
  const progress = new Progress(output, 'fetched', terminal);
  progress.expect(8 * MIB);
  jest.advanceTimersByTime(300);
  progress.add(1, 2 * MIB);
  // Not again at once.
  progress.add(0, MIB);
  jest.advanceTimersByTime(300);
  progress.add(3, 5 * MIB);
  progress.end();
  jest.useRealTimers();
  expect(pictures).toEqual([
    `${ERASED}[------------------------]   0 %  0 files, 0.0 of 8.0 MiB fetched`,
    `${ERASED}[######------------------]  25 %  1 files, 2.0 of 8.0 MiB fetched`,
    `${ERASED}[########################] 100 %  4 files, 8.0 of 8.0 MiB fetched`,
    ERASED,
  ]);
  expect(lines).toEqual(['4 files, 8.0 MiB fetched']);
});

test('a narrow terminal gets what fits a line', () => {
  const { pictures, terminal, output } = terminalOf(true, 40);
  new Progress(output, 'fetched', terminal).expect(MIB);
  expect(pictures.map((text) => text.slice(ERASED.length).length)).toEqual([39]);
});

test('a pipe gets the result alone', () => {
  const { pictures, lines, terminal, output } = terminalOf(false);
  const progress = new Progress(output, 'dropped', terminal);
  expect(progress.isShown).toBe(false);
  progress.add(2, MIB);
  progress.end();
  expect({ pictures, lines }).toEqual({ pictures: [], lines: ['2 files, 1.0 MiB dropped'] });
});

import { styleText } from 'node:util';
import { ConfigurationError } from '../config/problem.js';
import { explain } from '../daemon/explanation.js';
import type { Redaction } from '../log/redaction.js';

type Style = Parameters<typeof styleText>[0];

/** Writes for a person on a terminal, plainly for a pipe. Nothing secret passes. */
export class Output {
  readonly #redaction: () => Redaction;

  constructor(redaction: () => Redaction) {
    this.#redaction = redaction;
  }

  line(text = ''): void {
    process.stdout.write(`${this.#redaction().apply(text)}\n`);
  }

  note(text: string): void {
    process.stderr.write(`${this.#redaction().apply(text)}\n`);
  }

  json(value: unknown): void {
    this.line(JSON.stringify(value, undefined, 2));
  }

  /** Aligned columns under a heading on a terminal; tab-separated without one in a pipe. */
  table(heading: readonly string[], rows: readonly (readonly string[])[]): void {
    if (!process.stdout.isTTY) {
      for (const row of rows) this.line(row.map((cell) => cell.replaceAll(/[\t\n]/g, ' ')).join('\t'));
      return;
    }
    const widths = heading.map((cell, column) =>
      Math.max(cell.length, ...rows.map((row) => row[column]!.length)),
    );
    const format = (row: readonly string[]): string =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd();
    this.line(this.style('bold', format(heading)));
    for (const row of rows) this.line(format(row));
  }

  /** What the reader of the command line complains of: `error: unknown option '--x'`, and perhaps a suggestion below it. */
  usage(text: string): void {
    const [what = '', suggestion] = text.trim().split('\n');
    this.note(`${this.style('red', 'mirage:', process.stderr)} ${what.replace(/^error: /, '')}`);
    this.note(
      `  do:  ${suggestion?.replace(/^\((.*)\)$/, '$1') ?? 'see what there is: mirage --help, mirage COMMAND --help'}`,
    );
  }

  /** What happened, why, what to do. */
  error(error: unknown): void {
    const problems =
      error instanceof ConfigurationError
        ? error.problems.map(({ place, what, why, remedy }) => ({ what: `${place}: ${what}`, why, remedy }))
        : [explain(error)];
    for (const problem of problems) this.problem(problem);
  }

  problem({ what, why, remedy }: { what: string; why: string; remedy: string }): void {
    const flat = (text: string): string => text.replaceAll(/\s*\n\s*/g, ' ');
    this.note(`${this.style('red', 'mirage:', process.stderr)} ${flat(what)}`);
    this.note(`  why: ${flat(why)}`);
    this.note(`  do:  ${flat(remedy)}`);
  }

  style(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
    return stream.isTTY && !process.env.NO_COLOR && process.env.TERM !== 'dumb'
      ? styleText(style, text)
      : text;
  }
}

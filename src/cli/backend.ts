import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { type CheckResult, conformanceChecks, runCheck } from '../backends/conformance/kit.js';
import type { Backend } from '../backends/contract.js';
import { loadModule } from '../backends/custom/module.js';
import { systemClock } from '../clock/clock.js';
import { isPlain, type Plain, readDocument } from '../config/document.js';
import { ConfigurationError } from '../config/problem.js';
import { MirageError } from '../errors/mirage-error.js';
import { Redaction } from '../log/redaction.js';
import { logTo } from '../log/text-log.js';
import { exitCodes } from './exit-codes.js';
import type { Output } from './output.js';

/** A check that gives no answer for so long has failed, milliseconds. */
const CHECK_DEADLINE = 120_000;

export interface BackendTest {
  readonly module: string;
  /** A file with the keys of the mount, as they would stand in the configuration. */
  readonly options?: string | undefined;
  readonly json: boolean;
}

/** Runs every check of the contract on a stranger's backend. Exit code 1: it breaks a promise. */
export async function testBackend(
  { module: path, options, json }: BackendTest,
  { output, conceal }: { output: Output; conceal: (redaction: Redaction) => void },
): Promise<number> {
  const redaction = new Redaction();
  const given = options === undefined ? {} : readOptions(options, redaction);
  conceal(redaction);
  const backend = await open(resolve(path), given, output);
  const results: CheckResult[] = [];
  try {
    for (const check of conformanceChecks) {
      const result = await withDeadline(check.name, (signal) => runCheck(backend, check, signal));
      results.push(result);
      if (!json) show(result, output);
    }
  } finally {
    await backend.close?.();
  }
  const count = (outcome: CheckResult['outcome']): number =>
    results.filter((result) => result.outcome === outcome).length;
  if (json) {
    output.json(
      results.map((result) => ({
        name: result.name,
        outcome: result.outcome,
        ...(result.outcome === 'failed' && { error: reasonOf(result.error) }),
      })),
    );
  } else {
    output.line(`${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped`);
  }
  return count('failed') > 0 ? exitCodes.failure : exitCodes.ok;
}

/** For writing where it can be written. */
async function open(path: string, given: Plain, output: Output): Promise<Backend> {
  const module = await loadModule(path);
  const context = {
    log: logTo(({ message }) => output.note(message)),
    clock: systemClock,
    signal: AbortSignal.timeout(CHECK_DEADLINE),
  };
  try {
    return (await module.open(given, { ...context, writable: true })).backend;
  } catch (error) {
    if (MirageError.is(error, 'EINVAL')) throw refusedOptions(path, error);
    if (!MirageError.is(error, 'EROFS')) throw error;
    return (await module.open(given, { ...context, writable: false })).backend;
  }
}

/** What a configuration file with these keys would be told. */
const refusedOptions = (path: string, { message, hint }: MirageError): ConfigurationError =>
  new ConfigurationError([
    {
      place: path,
      what: message,
      why: 'the module does not take the keys of --options',
      remedy: hint ?? 'correct the file',
    },
  ]);

function readOptions(file: string, redaction: Redaction): Plain {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new MirageError(`cannot read the options ${file}`, {
      errno: 'ENOENT',
      cause,
      hint: 'check the path',
    });
  }
  const { value } = readDocument(text, file, process.env, redaction);
  if (value !== undefined && isPlain(value)) return value;
  throw new ConfigurationError([
    {
      place: file,
      what: 'there are no options here',
      why: 'the file holds the keys of the mount, without type and mode',
      remedy: 'write them as  key: value',
    },
  ]);
}

async function withDeadline(
  name: string,
  run: (signal: AbortSignal) => Promise<CheckResult>,
): Promise<CheckResult> {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<CheckResult>((resolveLate) => {
    timer = setTimeout(() => {
      controller.abort();
      const error = new Error(`no answer within ${CHECK_DEADLINE / 1000} s`);
      resolveLate({ name, outcome: 'failed', error });
    }, CHECK_DEADLINE);
  });
  try {
    return await Promise.race([run(controller.signal), late]);
  } finally {
    clearTimeout(timer);
  }
}

const STYLES = { passed: 'green', failed: 'red', skipped: 'dim' } as const;

function show(result: CheckResult, output: Output): void {
  const { name, outcome } = result;
  output.line(`${output.style(STYLES[outcome], outcome.padEnd(7))}  ${name}`);
  if (outcome === 'failed') output.line(`         ${reasonOf(result.error)}`);
}

const reasonOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).replaceAll(/\s*\n\s*/g, ' ');

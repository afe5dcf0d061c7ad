import { uptime } from 'node:os';

/**
 * Milliseconds since the host was started, the time that it slept included (CLOCK_BOOTTIME; Linux tells it in hundredths of a second). The monotonic
 * clock of a process stands still meanwhile.
 */
export const bootTime = (): number => uptime() * 1000;

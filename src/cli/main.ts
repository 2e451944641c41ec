#!/usr/bin/env node
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import yargs, { type Argv } from 'yargs';
import { messageOf, RunError, UserError } from '../errors.ts';
import { nearest } from '../nearest.ts';
import { packageVersion } from '../package-version.ts';
import type { Command } from './command.ts';
import { doctorCommand } from './doctor.ts';
import { evalCommand } from './eval.ts';
import { exportCommand } from './export.ts';
import { inspectCommand } from './inspect.ts';
import type { Io } from './io.ts';
import { protectDash } from './options-from-schema.ts';
import { rolloutCommand } from './rollout.ts';
import { trainCommand } from './train.ts';

const COMMANDS: readonly Command[] = [
  ...[exportCommand, rolloutCommand, trainCommand],
  ...[evalCommand, inspectCommand, doctorCommand],
];

const commandName = (command: Command) => command.usage.split(' ')[0] ?? '';

/** What the command line asks for: text to print, or a command with its arguments. */
type Request = { print: string } | { command: Command; argv: Record<string, unknown> };

/** yargs' words for missing arguments, in ours. */
function argumentProblem(message: string, args: readonly string[]): string {
  const command = COMMANDS.find((candidate) => commandName(candidate) === args[0]);
  if (message.startsWith('Not enough non-option arguments') && command !== undefined) {
    return `${command.usage}: the argument is missing; see rlp-ort ${args[0]} --help`;
  }
  const flag = /^Not enough arguments following: (.+)$/.exec(message)?.[1];
  return flag === undefined ? `${message}; see --help` : `--${flag} needs a value; see --help`;
}

function buildParser(args: readonly string[], found: (command: Command, argv: Record<string, unknown>) => void): Argv {
  const parser = yargs()
    .scriptName('rlp-ort')
    .usage('$0 COMMAND\n\nReinforcement learning pretraining (RLP) of language models on ONNX Runtime.')
    .parserConfiguration({ 'camel-case-expansion': false, 'parse-numbers': false })
    .option('verbose', {
      boolean: true,
      description: 'Name every node that a device leaves to the CPU; print the stack of unexpected errors',
    })
    .epilogue(
      '`rlp-ort COMMAND --help` lists the flags of a command. Exit codes: 0 done, 1 failed, 2 change something.',
    )
    .version(packageVersion())
    .help()
    .alias('help', 'h')
    .wrap(110)
    .exitProcess(false)
    .showHelpOnFail(false)
    .fail((message, error) => {
      // yargs reports what it finds wrong with the arguments as a message or as an error of its own class.
      if (error !== undefined && error !== null && error.name !== 'YError') throw error;
      throw new UserError(argumentProblem(message ?? messageOf(error), args));
    });
  for (const command of COMMANDS) {
    parser.command(command.usage, command.summary, command.declare, (argv) => found(command, argv));
  }
  return parser;
}

function parse(args: readonly string[]): Request {
  const requests: Request[] = [];
  const parser = buildParser(args, (command, argv) => requests.push({ command, argv }));
  // With a callback yargs hands over what it would print (--help, --version) instead of printing it.
  const argv: Record<string, unknown> = {
    ...parser.parseSync(protectDash(args), {}, (_error: unknown, _argv: unknown, output: string) => {
      if (output !== '') requests.unshift({ print: output });
    }),
  };
  const [request] = requests;
  if (request !== undefined) return request;
  const [name] = Array.isArray(argv._) ? argv._ : [];
  if (name === undefined) throw new UserError('which command? See rlp-ort --help');
  const suggestion = nearest(String(name), COMMANDS.map(commandName));
  const hint = suggestion === undefined ? 'see rlp-ort --help' : `did you mean ${suggestion}?`;
  throw new UserError(`unknown command ${name}; ${hint}`);
}

/**
 * Runs the program.
 * @param args arguments after the program's name
 * @returns the exit code: 0 done, 1 failed while running, 2 the user must change something
 */
export async function main(args: readonly string[], terminal: Io): Promise<number> {
  const io = { ...terminal, verbose: terminal.verbose || args.includes('--verbose') };
  try {
    const request = parse(args);
    if ('print' in request) {
      io.out(`${request.print}\n`);
      return 0;
    }
    return await request.command.run(request.argv, io);
  } catch (thrown) {
    if (thrown instanceof UserError) {
      io.err(`rlp-ort: ${thrown.message}\n`);
      return 2;
    }
    if (thrown instanceof RunError) {
      io.err(`rlp-ort: ${thrown.message}\n`);
      return 1;
    }
    if (io.signal.aborted) {
      io.err('rlp-ort: interrupted\n');
      return 1;
    }
    io.err(`rlp-ort: failed: ${messageOf(thrown)}\n`);
    if (io.verbose && thrown instanceof Error) io.err(`${thrown.stack}\n`);
    else io.err('This is an error of the program or of the machine; --verbose shows where it happened.\n');
    return 1;
  }
}

const SHOW_CURSOR = '\x1b[?25h';

/** The first Ctrl-C (or SIGTERM) asks for an orderly stop, the second ends the process as if nobody listened. */
function interruptSignal(): AbortSignal {
  const interrupt = new AbortController();
  const listen = (signal: NodeJS.Signals) => {
    process.once(signal, () => {
      if (interrupt.signal.aborted) {
        if (process.stderr.isTTY === true) process.stderr.write(SHOW_CURSOR); // a progress bar hides it
        process.kill(process.pid, signal); // once: nobody listens any more
        return;
      }
      process.stderr.write(
        '\nrlp-ort: finishing what is in flight; press Ctrl-C again to stop at once (what is on disk is kept)\n',
      );
      interrupt.abort();
      listen(signal);
    });
  };
  listen('SIGINT');
  listen('SIGTERM');
  return interrupt.signal;
}

/** Runs the program in this process's terminal. */
async function runInTerminal(): Promise<void> {
  // `rlp-ort inspect FILE | head` closes the pipe early: nobody is left to read the rest.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
  process.exitCode = await main(process.argv.slice(2), {
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
    outIsTerminal: process.stdout.isTTY === true && process.env.NO_COLOR === undefined,
    errIsTerminal: process.stderr.isTTY === true,
    verbose: process.env.DEBUG !== undefined && process.env.DEBUG !== '',
    signal: interruptSignal(),
  });
}

// npm starts the program through a link, whose path is not this module's.
const started = process.argv[1];
if (started !== undefined && realpathSync(started) === fileURLToPath(import.meta.url)) await runInTerminal();

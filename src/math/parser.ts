import { call, type Expression, FUNCTIONS, type FunctionName, type RelationSign } from './expression.ts';
import { stated, type Token, tokenize } from './latex.ts';
import { decimalRational, rational } from './rational.ts';

/** An answer as an expression, and what stands behind it. */
export interface ParsedAnswer {
  expression: Expression;
  unit: string;
}

/** Of brackets within brackets. */
const MAX_DEPTH = 40;

/** Thrown within this file alone. */
class NotMathematics extends Error {}

/**
 * Reads an answer: LaTeX, or the same in plain letters (`sqrt(2)/2`). Written in one go from left to right, so that what a model
 * writes takes a time in proportion to its length. Undefined for what it does not understand.
 *
 * A number directly before a fraction of two numbers that is below 1 is a mixed number; else what stands side by side is multiplied,
 * and divided and multiplied from left to right. `\log` has base 10, e and i are the constants.
 */
export function parseAnswer(answer: string): ParsedAnswer | undefined {
  const found = stated(answer);
  const tokens = found && tokenize(found.latex);
  if (found === undefined || tokens === undefined || tokens.length === 0) return undefined;
  try {
    return { expression: new Parser(tokens).answer(), unit: found.unit };
  } catch (thrown) {
    if (thrown instanceof NotMathematics) return undefined;
    throw thrown;
  }
}

const RELATIONS: Readonly<Record<string, RelationSign>> = {
  ...{ '=': '=', '<': '<', '\\le': '<=', '>': '<', '\\ge': '<=', '\\ne': '!=' },
};
const SETS = { '\\cup': 'union', '\\cap': 'intersection', '\\setminus': 'difference' } as const;
const GREEK =
  /^\\(?:var)?(?:alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Sigma|Phi|Psi|Omega)$/;
const CLOSING: Readonly<Record<string, string>> = { '\\lfloor': '\\rfloor', '\\lceil': '\\rceil' };

class Parser {
  readonly #tokens: readonly Token[];
  #at = 0;
  #depth = 0;
  /** Open |: the next one closes it. */
  #bars = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  answer(): Expression {
    const items = this.#items();
    if (this.#at < this.#tokens.length) throw new NotMathematics();
    return items.length === 1 ? items[0] : { kind: 'set', items };
  }

  get #next(): string | undefined {
    return this.#tokens[this.#at]?.text;
  }
  #take(): Token {
    const token = this.#tokens[this.#at++];
    if (token === undefined) throw new NotMathematics();
    return token;
  }
  #accept(...texts: readonly string[]): string | undefined {
    const next = this.#next;
    if (next === undefined || !texts.includes(next)) return undefined;
    this.#at++;
    return next;
  }
  #expect(text: string): void {
    if (this.#accept(text) === undefined) throw new NotMathematics();
  }
  #within<T>(read: () => T): T {
    if (++this.#depth > MAX_DEPTH) throw new NotMathematics();
    const result = read();
    this.#depth--;
    return result;
  }

  /** What stands between commas. */
  #items(): Expression[] {
    const items = [this.#relation()];
    while (this.#accept(',') !== undefined) {
      if (this.#next === ',') continue; // `1, and 2`
      items.push(this.#relation());
    }
    return items;
  }

  #relation(): Expression {
    let left = this.#sets();
    const relations: Expression[] = [];
    for (;;) {
      if (this.#accept('\\in') !== undefined) {
        left = this.#sets(); // of x \in A what is said of x
        continue;
      }
      const sign = this.#accept(...Object.keys(RELATIONS));
      if (sign === undefined) break;
      const right = this.#sets();
      const [a, b] = sign === '>' || sign === '\\ge' ? [right, left] : [left, right];
      relations.push({ kind: 'relation', sign: RELATIONS[sign], left: a, right: b });
      left = right;
    }
    if (relations.length === 0) return left;
    return relations.length === 1 ? relations[0] : { kind: 'set', items: relations };
  }

  #sets(): Expression {
    let left = this.#sum();
    for (;;) {
      const sign = this.#accept(...Object.keys(SETS)) as keyof typeof SETS | undefined;
      if (sign === undefined) return left;
      left = { kind: SETS[sign], items: [left, this.#sum()] };
    }
  }

  #sum(): Expression {
    let left = this.#product();
    for (;;) {
      const sign = this.#accept('+', '-', '\\pm', '\\mp');
      if (sign === undefined) return left;
      const right = this.#product();
      if (sign === '+') left = call('add', left, right);
      else if (sign === '-') left = call('add', left, call('negate', right));
      else left = call('plus-minus', left, sign === '\\pm' ? right : call('negate', right));
    }
  }

  #product(): Expression {
    let left = this.#unary();
    for (;;) {
      if (this.#accept('*') !== undefined) left = call('multiply', left, this.#unary());
      else if (this.#accept('/') !== undefined) left = call('divide', left, this.#unary());
      else if (this.#startsFactor()) {
        const isFraction = this.#next === '\\frac';
        const right = this.#power();
        left = isFraction && isMixed(left, right) ? call('add', left, right) : call('multiply', left, right);
      } else return left;
    }
  }

  #unary(): Expression {
    return this.#within(() => {
      const sign = this.#accept('-', '+', '\\pm', '\\mp');
      if (sign === undefined) return this.#power();
      const value = this.#unary();
      if (sign === '+') return value;
      return sign === '-' ? call('negate', value) : call('plus-minus', ZERO, value);
    });
  }

  #power(): Expression {
    let base = this.#primary();
    for (;;) {
      if (this.#accept('!') !== undefined) base = call('factorial', base);
      else if (this.#accept('^') !== undefined) base = call('power', base, this.#script());
      else return base;
    }
  }

  /** Behind ^ or _: a group, or a number of any length (2^10 is what models mean by it); a sign may come before it. */
  #script(): Expression {
    return this.#within(() => {
      if (this.#accept('-') !== undefined) return call('negate', this.#script());
      return this.#primary();
    });
  }

  #until(close: string): Expression {
    const inside = this.#sum();
    this.#expect(close);
    return inside;
  }

  #startsFactor(): boolean {
    const token = this.#tokens[this.#at];
    if (token === undefined) return false;
    if (token.kind === 'number' || token.kind === 'symbol') return true;
    if (token.text === '|') return this.#bars === 0;
    if (token.kind === 'sign') return ['(', '{', '\\{'].includes(token.text);
    return !(token.text in RELATIONS || token.text in SETS || /^\\(?:in|pm|mp|rfloor|rceil|end.*)$/.test(token.text));
  }

  #primary(): Expression {
    return this.#within(() => {
      const token = this.#take();
      if (token.kind === 'number') return numberOf(token.text);
      if (token.kind === 'symbol') return this.#symbol(token.text);
      if (token.kind === 'command') return this.#command(token.text);
      if (token.text === '{') return this.#until('}');
      if (token.text === '|') {
        this.#bars++;
        const inside = this.#sum();
        this.#bars--;
        this.#expect('|');
        return call('abs', inside);
      }
      if (token.text === '\\{') {
        const items = this.#next === '\\}' ? [] : this.#items();
        this.#expect('\\}');
        return { kind: 'set', items };
      }
      if (token.text !== '(' && token.text !== '[') throw new NotMathematics();
      const items = this.#items();
      const close = this.#accept(')', ']');
      if (close === undefined) throw new NotMathematics();
      if (items.length === 1 && token.text === '(' && close === ')') return items[0];
      return { kind: 'tuple', brackets: token.text + close, items };
    });
  }

  /** A letter with its subscript. */
  #symbol(name: string): Expression {
    if (this.#accept('_') === undefined) return { kind: 'symbol', name };
    const from = this.#at;
    this.#script();
    const subscript = this.#tokens.slice(from, this.#at).map(({ text }) => text);
    return { kind: 'symbol', name: `${name}_${subscript.join('').replace(/^\{(.*)\}$/, '$1')}` };
  }

  #command(name: string): Expression {
    if (name === '\\pi' || name === '\\infty' || GREEK.test(name)) return this.#symbol(name);
    if (name === '\\emptyset' || name === '\\varnothing') return { kind: 'set', items: [] };
    if (name === '\\frac') return call('divide', this.#primary(), this.#primary());
    if (name === '\\binom') return call('binomial', this.#primary(), this.#primary());
    if (name === '\\sqrt') {
      const order = this.#accept('[') === undefined ? undefined : this.#until(']');
      const value = this.#primary();
      return order === undefined ? call('sqrt', value) : call('root', value, order);
    }
    if (name in CLOSING) return call(name === '\\lfloor' ? 'floor' : 'ceil', this.#until(CLOSING[name]));
    if (name === '\\log' || name === '\\lg') {
      const base = this.#accept('_') === undefined ? TEN : this.#script();
      return this.#applied((value) => call('log', value, base));
    }
    if (name.startsWith('\\begin')) return this.#matrix(name.replace('\\begin', '\\end'));
    const operation = FUNCTIONS.find((known) => known === name.slice(1));
    if (operation === undefined) throw new NotMathematics();
    return this.#function(operation);
  }

  /** sin x, sin^2 x, sin^{-1} x */
  #function(operation: FunctionName): Expression {
    if (this.#accept('^') === undefined) return this.#applied((value) => call(operation, value));
    const exponent = this.#script();
    const inverse = FUNCTIONS.find((known) => known === `arc${operation}`);
    if (inverse !== undefined && isMinusOne(exponent)) return this.#applied((value) => call(inverse, value));
    return this.#applied((value) => call('power', call(operation, value), exponent));
  }

  /** The argument of a function: a bracket, or what is multiplied without a sign, up to the next function. */
  #applied(apply: (argument: Expression) => Expression): Expression {
    return this.#within(() => {
      if (this.#next === '(') {
        const argument = this.#primary();
        return apply(argument);
      }
      if (this.#accept('-') !== undefined) return apply(call('negate', this.#power()));
      let argument = this.#power();
      while (this.#startsFactor() && !this.#startsFunction() && this.#next !== '(') {
        argument = call('multiply', argument, this.#power());
      }
      return apply(argument);
    });
  }

  #startsFunction(): boolean {
    const name = this.#next?.slice(1);
    return name === 'log' || name === 'lg' || FUNCTIONS.some((known) => known === name);
  }

  /** \begin{pmatrix} a & b \\ c & d \end{pmatrix} */
  #matrix(end: string): Expression {
    const rows: Expression[][] = [[this.#sum()]];
    for (;;) {
      if (this.#accept('&') !== undefined) rows.at(-1)?.push(this.#sum());
      else if (this.#accept('\\\\') !== undefined) {
        if (this.#next !== end) rows.push([this.#sum()]);
      } else break;
    }
    this.#expect(end);
    return { kind: 'matrix', rows };
  }
}

const integer = (value: bigint): Expression => ({ kind: 'number', value: { n: value, d: 1n } });
const ZERO = integer(0n);
const TEN = integer(10n);

function numberOf(text: string): Expression {
  const value = decimalRational(text);
  if (value === undefined) throw new NotMathematics();
  return { kind: 'number', value };
}

const isMinusOne = (expression: Expression): boolean =>
  expression.kind === 'call' &&
  expression.operation === 'negate' &&
  expression.args[0].kind === 'number' &&
  expression.args[0].value.n === 1n &&
  expression.args[0].value.d === 1n;

/** 1\frac{1}{2} */
function isMixed(whole: Expression, fraction: Expression): boolean {
  if (whole.kind !== 'number' || whole.value.d !== 1n) return false;
  if (fraction.kind !== 'call' || fraction.operation !== 'divide') return false;
  const [above, below] = fraction.args;
  if (above.kind !== 'number' || below.kind !== 'number') return false;
  const value = rational(above.value.n * below.value.d, above.value.d * below.value.n);
  return value !== undefined && above.value.d === 1n && below.value.d === 1n && value.n > 0n && value.n < value.d;
}

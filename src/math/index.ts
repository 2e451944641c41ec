export { equivalent } from './equivalence.ts';

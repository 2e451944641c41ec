export { OrtError } from './api.ts';
export { Binding } from './binding.ts';
export type { Device, LogSeverity } from './environment.ts';
export type { RuntimeInfo } from './info.ts';
export { runtimeInfo } from './info.ts';
export type { PlacedNode } from './placement.ts';
export type { SessionOptions, TensorInfo } from './session.ts';
export { Session } from './session.ts';
export { Value } from './value.ts';

// The build puts this file of onnxruntime-web beside the page; its types are the package's own.
declare module "*/ort.wasm.min.mjs" {
  export * from "onnxruntime-web";
}

#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace calque::cli {

// A name of something that `calque quantize` and `calque init` can make, with all that a job file
// says about it.
struct Target {
  std::string name;        // "gptq-4bit", "Q4_K_M"
  std::string format;      // export.format
  std::string type;        // export.type of gguf
  std::string ending;      // the end of the artifact's name, as publishers write it: "-GPTQ-Int4"
  std::string loads_in;    // "vLLM, SGLang, transformers"
  std::string method;      // quantization.method
  int bits = 0;            // quantization.bits; 0: the type says it
  bool sym = true;         // quantization.sym
  std::string scheme;      // export.scheme, which says it instead of bits and sym; "": none
  bool needs_text = true;  // false: rounding to nearest loses nothing that text could save
  int group_size = 128;    // quantization.group_size, unless it does not fit
  bool is_file() const { return bits == 0; }
};

std::vector<std::string> target_names();
// Upper and lower case are the same, and - and _ do not count. Error(kConfig, "E119") with the
// nearest name if there is none.
Target target_named(const std::string& name);

// A program that loads artifacts, and the target made for it if none is named.
struct Runtime {
  std::string_view name;       // "vllm"
  std::string_view label;      // in Target::loads_in: "vLLM"
  std::string_view usual;      // "w4a16"
  std::string_view requires_;  // key of export.require that checks it; "": none
};
std::span<const Runtime> runtimes();
std::vector<std::string> runtime_names();
const Runtime& runtime_named(std::string_view name);

// Without a target and a runtime: one file that runs everywhere.
inline constexpr const char* kUsualTarget = "Q4_K_M";

// "gptq-2bit, ..., or a GGUF type (Q4_K_M, ...)", for --help.
std::string targets_text();

}  // namespace calque::cli

#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "calque/core/dtype.h"
#include "calque/io/safetensors.h"
#include "calque/model/config.h"
#include "calque/model/family.h"
#include "cli/run_program.h"

// Jobs that take a moment and save after every block, for tests that interrupt them.
namespace calque::cli {

// A job file's parts.
struct SmallJob {
  std::string quantization;
  std::string exports;
  std::string calibration =
      "calibration: {tokens: ../tokens/model.safetensors, n_samples: 4, "
      "seqlen: 32}\n";
  std::string evaluation = "";
};

inline SmallJob gptq_job() {
  return {"method: gptq, bits: 4, group_size: 32, refine_passes: 0",
          "{format: gptq, path: out/folder, overwrite: true}, "
          "{format: gguf, path: out/q4.gguf, type: Q4_0, overwrite: true}"};
}
// An AWQ job: its folder is split, and absorbers change.
inline SmallJob awq_job() {
  return {"method: awq, bits: 4, group_size: 32, refine_passes: 0",
          "{format: awq, path: out/folder, max_shard_size: 200000}"};
}
// Two passes, each alongside the original model.
inline SmallJob upstream_job() {
  return {"method: gptq, bits: 3, group_size: 32, upstream_correction: 1, refine_passes: 0",
          "{format: gguf, path: out/k.gguf, type: Q4_K}, {format: gptq, path: out/folder}",
          "calibration: {tokens: ../tokens/model.safetensors, n_samples: 4, seqlen: 32, "
          "save_imatrix: out/imatrix.gguf}\n"};
}

inline SmallJob family_job() {
  return {"method: gptq, bits: 4, group_size: 32, upstream_correction: 1, refine_passes: 0",
          "{format: gguf, path: out/q4.gguf, type: Q4_0}, "
          "{format: compressed-tensors, path: out/folder}"};
}

inline SmallJob evaluated_job() {
  SmallJob job = gptq_job();
  job.evaluation =
      "evaluate: {texts: [{name: first, tokens: ../tokens/model.safetensors}, "
      "{name: second, tokens: ../tokens/model.safetensors}], seqlen: 32, windows: 4}\n";
  return job;
}

// Llama of 3 layers, 256 wide: the least that K-quants take.
inline void write_small_model(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  write(folder / "config.json",
        R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256,
 "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
 "num_key_value_heads": 4, "head_dim": 64, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
 "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": false, "vocab_size": 320,
 "torch_dtype": "float16"})");
  std::vector<io::TensorDeclaration> declared;
  for (const model::TensorSpec& tensor : model::family_of(model::load_config(folder)).tensors())
    declared.push_back({tensor.name, DType::kF16, tensor.shape});
  io::SafetensorsWriter writer(folder, declared);
  float phase = 0;
  for (const io::TensorDeclaration& tensor : declared) {
    std::vector<float> values(tensor.byte_count() / 2);
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = tensor.shape.size() == 1
                      ? 1.0f
                      : 0.1f * std::sin(phase + static_cast<float>(i % 9973) * 1.7f);
    phase += 1;
    std::vector<std::byte> bytes(tensor.byte_count());
    convert_from_float(values.data(), DType::kF16, values.size(), bytes.data());
    writer.write(tensor.name, bytes);
  }
  writer.finish();
}

inline void write_small_tokens(const std::filesystem::path& folder, int factor = 7919) {
  std::filesystem::create_directories(folder);
  std::vector<std::int32_t> ids(4 * 32);
  for (std::size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<std::int32_t>(i * static_cast<std::size_t>(factor) % 317);
  io::SafetensorsWriter writer(folder, {{"input_ids", DType::kI32, {4, 32}}});
  writer.write("input_ids", std::as_bytes(std::span(ids)));
  writer.finish();
}

// `folder`/job.yaml. Everything that the job writes is in `folder`; model and tokens are next to
// it.
inline void write_job(const std::filesystem::path& folder, const SmallJob& job,
                      const std::string& checkpoint = "block") {
  std::filesystem::create_directories(folder);
  write(folder / "job.yaml",
        fmt::format("version: 1\nname: test\nmodel: {{path: ../model}}\n{}{}quantization: {{{}}}\n"
                    "export: [{}]\nrun_dir: run\n"
                    "runtime: {{threads: 2, forward_dtype: float32, checkpoint: {}}}\n",
                    job.calibration, job.evaluation, job.quantization, job.exports, checkpoint));
}

inline std::string run_arguments(const std::filesystem::path& folder) {
  return "run " + shell_quoted(folder / "job.yaml") + " --progress none";
}
inline std::string resume_arguments(const std::filesystem::path& folder) {
  return "resume " + shell_quoted(folder / "run") + " --progress none";
}

// Resumes as a user would. A run that has not recorded its job yet is simply run again.
inline Outcome go_on(const std::filesystem::path& folder, const std::string& before = "") {
  const bool began = std::filesystem::exists(folder / "run/job.resolved.yaml");
  return run(began ? resume_arguments(folder) : run_arguments(folder), before);
}

// Runs the program silently in a separate process.
inline pid_t start(const std::vector<std::string>& arguments) {
  const pid_t process = ::fork();
  if (process == 0) {
    const int nowhere = ::open("/dev/null", O_RDWR);
    for (const int stream : {0, 1, 2}) ::dup2(nowhere, stream);
    std::vector<char*> words;
    std::string path = program();
    words.push_back(path.data());
    for (const std::string& word : arguments) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    ::execv(path.c_str(), words.data());
    ::_exit(127);
  }
  return process;
}

// Runs the program and kills it after `seconds`. Returns true if it was killed before it ended.
inline bool run_and_kill(const std::vector<std::string>& arguments, double seconds) {
  const pid_t process = start(arguments);
  ::usleep(static_cast<useconds_t>(seconds * 1e6));
  ::kill(process, SIGKILL);
  int status = 0;
  ::waitpid(process, &status, 0);
  return WIFSIGNALED(status);
}

// Column 14 of modules.csv is seconds.
inline std::string without_seconds(const std::string& csv) {
  std::istringstream lines(csv);
  std::string kept;
  for (std::string line; std::getline(lines, line); kept += '\n') {
    std::istringstream cells(line);
    int column = 0;
    for (std::string cell; std::getline(cells, cell, ','); ++column)
      if (column != 13) kept += cell + ',';
  }
  return kept;
}

// The contents by name of everything a job makes, without files that contain times or folder names.
inline std::map<std::string, std::string> results_of(const std::filesystem::path& folder) {
  std::map<std::string, std::string> results;
  results["modules.csv"] = without_seconds(contents_of(folder / "run/modules.csv"));
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder / "out")) {
    const std::string name = entry.path().filename().string();
    const bool timed = name == "metrics.json" || name == "SHA256SUMS" || name == "README.md" ||
                       name == "job.resolved.yaml";
    if (entry.is_regular_file())
      results[entry.path().lexically_relative(folder).string()] =
          timed ? "" : contents_of(entry.path());
  }
  return results;
}

}  // namespace calque::cli

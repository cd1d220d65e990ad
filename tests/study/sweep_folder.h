#pragma once

#include <fstream>
#include <iterator>
#include <string>

#include "calque/config/sweep_file.h"
#include "calque/study/run_sweep.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace calque::study {

// The tiny model, with a job file and sweep files in the same folder.
class SweepFolder {
 public:
  SweepFolder() {
    pipeline::write_tiny_model(folder_ / "model");
    write("job.yaml",
          "version: 1\nmodel: {path: model}\nquantization: {method: rtn, group_size: 32}\n"
          "export: [{format: gptq, path: elsewhere/tiny}]\n");
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  // A job that calibrates and evaluates, in a second or so.
  void write_measuring_job() const {
    pipeline::write_chunks(folder_ / "ids", pipeline::golden_request(folder_ / "model"));
    write("job.yaml",
          "version: 1\nmodel: {path: model}\n"
          "calibration: {tokens: ids/model.safetensors, n_samples: 4, seqlen: 128}\n"
          "quantization: {method: gptq, group_size: 32, propagate_error: false}\n"
          "export: [{format: gptq, path: elsewhere/tiny}]\n"
          "evaluate: {texts: [{tokens: ids/model.safetensors}], seqlen: 64, windows: 4}\n"
          "runtime: {forward_dtype: float32}\npublish: {model_card: false}\n");
  }

  // The rest of a sweep file, after version, base and output.
  SweepPlan plan(const std::string& rest) const {
    write("sweep.yaml", "version: 1\nbase: job.yaml\noutput: sweep\n" + rest);
    return plan_sweep(config::load_sweep(folder_ / "sweep.yaml"));
  }
  std::string read(const std::string& name) const {
    std::ifstream file(folder_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::filesystem::path operator/(const std::string& name) const { return folder_ / name; }

 private:
  testing::TempFolder folder_;
};

}  // namespace calque::study

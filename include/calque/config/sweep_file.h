#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace calque::config {

// One key of the job file and its value, in the form --set takes: "quantization.bits=4".
struct Setting {
  std::string path;
  std::string value;

  std::string assignment() const { return path + "=" + value; }
  bool operator==(const Setting&) const = default;
};
using Settings = std::vector<Setting>;

// A key and the values that it takes in turn.
struct SweepAxis {
  std::string path;
  std::vector<std::string> values;
};

// Points to leave out: a point is excluded if every key here has one of its listed values.
using Exclusion = std::vector<SweepAxis>;

// Work that the points of a sweep may share, if sharing changes no result.
struct Sharing {
  bool tokens = true;      // tokenized texts
  bool reference = true;   // the original model's final hidden states, for evaluation
  bool statistics = true;  // statistics of the linears' inputs; only with propagate_error: false
  bool asked = false;      // `share` was written; anything that cannot be shared is then an error
};

enum class KeepArtifacts { kNone, kPareto, kAll };

// A sweep file (configs/README.md): one job file and the values to run it with.
struct SweepFile {
  std::string name;
  std::filesystem::path base;  // the job file
  Settings set;                // applies to every point
  std::vector<SweepAxis> grid;
  std::vector<Settings> paired;  // alternatives; all set the same keys
  std::vector<Exclusion> exclude;
  std::vector<SweepAxis> replicates;
  Sharing share;
  KeepArtifacts keep_artifacts = KeepArtifacts::kNone;
  bool stop_on_failure = false;
  bool skip_invalid = false;  // list invalid points as failed instead of refusing the sweep
  std::filesystem::path output;

  // Keys of `grid` and `paired`, in file order.
  std::vector<std::string> swept() const;
};

// Reads a sweep file as strictly as a job file: all faults are reported together, each as
// "file:line:column: error[E101]: ..." with a caret and the nearest valid name. Values are checked
// against the job file's keys; the job file itself is not read. Error(kConfig), E101 to E111 as for
// job files, and
//   E181 a key is given twice over the sections, or by two names
//   E182 an exclusion names what is not swept
//   E183 a key that every point sets for itself (run_dir, name, an export's path)
SweepFile load_sweep(const std::filesystem::path& file);

// The sweep with every default filled in, as YAML that load_sweep accepts (absolute paths).
std::string resolved_yaml(const SweepFile& sweep);

// Every key, and the short names of the job file's, as Markdown; part of key_reference().
std::string sweep_key_reference();

// "quantization.bits" for "bits"; other names unchanged.
std::string full_path_of(const std::string& name);
// "bits" for "quantization.bits"; the last part of other paths.
std::string short_name_of(const std::string& path);

}  // namespace calque::config

#include "config/sections.h"

namespace calque::config {

using job::Job;

Section runtime_section() {
  using S = job::RuntimeSettings;
  Section s;
  s.path = "runtime";
  s.doc = "Where and how the work is done. Results do not depend on `threads` or `max_ram`.";
  s.open = [](Job& job) -> void* { return &job.runtime; };
  s.instances = [](const Job& job) { return std::vector<const void*>{&job.runtime}; };
  s.keys = {
      key<S>(
          "threads", count_or_auto(), [](const S& r) -> auto& { return r.threads; },
          "CPU threads; `auto`: all that the process may use."),
      key<S>(
          "forward_dtype", one_of({"auto", "float32", "bfloat16"}),
          [](const S& r) -> auto& { return r.forward_dtype; },
          "Precision of the calibration forward pass; `auto`: bfloat16 on GPUs and where the "
          "processor multiplies it natively."),
      key<S>(
          "device", device(), [](const S& r) -> auto& { return r.device; },
          "Where every stage runs that `stages` does not name; `auto`: on a GPU if this machine "
          "has one that can do all that the stage needs, else `cpu`; `cuda` is `cuda:0`."),
      key<S>(
          "max_ram", byte_limit(), [](const S& r) -> auto& { return r.max_ram; },
          "Memory that the job may take; activations beyond it go to files in `offload_dir`."),
      key<S>(
          "offload_dir", path_or_null(), [](const S& r) -> auto& { return r.offload_dir; },
          "Folder for activations that `max_ram` leaves no room for; null: `run_dir`."),
      key<S>(
          "checkpoint", one_of({"auto", "block", "off"}),
          [](const S& r) -> auto& { return r.checkpoint; },
          "When finished blocks are saved in `run_dir`/state, for `calque resume`: after every "
          "`block`, or as often as takes 3 % of the time (`auto`), or never."),
  };
  return s;
}

Section stages_section() {
  using S = job::StageDevices;
  Section s;
  s.path = "runtime.stages";
  s.doc = "The device of single stages; null: as `runtime.device` says.";
  s.open = [](Job& job) -> void* { return &job.runtime.stages; };
  s.instances = [](const Job& job) { return std::vector<const void*>{&job.runtime.stages}; };
  s.keys = {
      key<S>(
          "forward", device_or_null(), [](const S& d) -> auto& { return d.forward; },
          "The way of calibration and evaluation text through the model."),
      key<S>(
          "statistics", device_or_null(), [](const S& d) -> auto& { return d.statistics; },
          "Gram matrices of what the linears see."),
      key<S>(
          "transform", device_or_null(), [](const S& d) -> auto& { return d.transform; },
          "Search for channel scales; corrections for errors of earlier layers."),
      key<S>(
          "quantize", device_or_null(), [](const S& d) -> auto& { return d.quantize; },
          "Rounding."),
      key<S>(
          "pack", device_or_null(), [](const S& d) -> auto& { return d.pack; },
          "Codes into the words of the file."),
  };
  return s;
}

}  // namespace calque::config

#pragma once

#include "calque/job/job.h"
#include "calque/text/corpus.h"
#include "resume/run_records.h"

namespace calque::resume {

// What a run that goes on must find as it was. Keys of the job file that cannot change the result
// (threads, max_ram, ...) are left out.
Fields settings_fields(const Fields& settings);
// Files of the model, and the imatrix. Above 8 GiB in all, the weights are compared by size, time
// of the last change, header and 4 KiB of every MiB instead of all bytes.
Fields model_fields(const job::Job& job);
Fields device_fields(const job::StageDevices& devices, const std::string& forward_dtype);
Fields calibration_fields(const text::Manifest& manifest);

// Error(kConfig, "E305") naming the first field that differs, with both values.
void require_same(const Fields& now, const Fields& before);

}  // namespace calque::resume

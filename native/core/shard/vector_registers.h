// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <signal.h>

namespace keyhold {

/// Zeroes this thread's vector registers. Copying leaves the last bytes of a client's plaintext
/// there, and a core dump holds the registers of every thread.
void ClearVectorRegisters();

/// While it lives no signal handler runs on this thread: its frame would save the vector registers
/// on the stack, where nobody wipes them. Signals that report a fault of the thread itself stay.
class NoSignalFrames {
 public:
  NoSignalFrames();
  ~NoSignalFrames();
  NoSignalFrames(const NoSignalFrames&) = delete;
  NoSignalFrames& operator=(const NoSignalFrames&) = delete;

 private:
  sigset_t before_;
};

}  // namespace keyhold

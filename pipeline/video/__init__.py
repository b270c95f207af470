"""Videos to upright RGB frames, sampled by presentation time."""

from pipeline.video.decode import VideoFrame, sample_frames

__all__ = ["VideoFrame", "sample_frames"]

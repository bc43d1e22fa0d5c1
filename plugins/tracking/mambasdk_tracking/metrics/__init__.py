"""HOTA, CLEAR and Identity metrics, equal to TrackEval's.

Example:
    result = evaluate({"MOT17-02": (read_table("gt.txt", ground_truth=True), read_table("tracks.txt", results=True))})
    print(result.total["HOTA"], result.sequences["MOT17-02"]["IDF1"])

"""

from mambasdk_tracking.metrics.evaluation import Evaluation, evaluate, evaluate_folder, format_table
from mambasdk_tracking.metrics.matching import FramePairs, pair_frames
from mambasdk_tracking.metrics.preprocessing import preprocess

__all__ = ["Evaluation", "FramePairs", "evaluate", "evaluate_folder", "format_table", "pair_frames", "preprocess"]

"""Plans in the words of nnU-Net v2: what a data set says about its network and its preparation."""

from mambasdk_medical.plans.network import NetworkPlan

__all__ = ["NetworkPlan"]

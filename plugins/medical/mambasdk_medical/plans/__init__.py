"""Plans in the words of nnU-Net v2: what a data set says about its network and its preparation."""

from mambasdk_medical.plans.network import NetworkPlan
from mambasdk_medical.plans.plans_file import PLANS_FILE, Configuration, Plans

__all__ = ["PLANS_FILE", "Configuration", "NetworkPlan", "Plans"]
